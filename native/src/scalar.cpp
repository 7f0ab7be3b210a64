// The reference: every kernel in plain loops, for any processor. Slow, and right by inspection; the tests compare all
// others with it. Operands are packed as the AVX-512 kernels have them.
#include <cmath>
#include <cstring>

#include "element.h"
#include "kernels.h"

namespace allmlp {
namespace {

constexpr int kRows = 4, kColumns = 16;

template <Precision P>
struct Traits {
  static constexpr Element element = P == Precision::fp32   ? Element::f32
                                     : P == Precision::bf16 ? Element::bf16
                                                            : Element::i8;
  static constexpr int group = P == Precision::fp32 ? 1 : P == Precision::bf16 ? 2 : 4;
};

double exact_gelu(double x, int form) {
  if (form == 0) return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

// Rounded to nearest, ties to even; NaN becomes 0.
int cut(float v, int most) { return v > 0 ? static_cast<int>(std::nearbyint(v < float(most) ? v : float(most))) : 0; }

template <Precision P>
void put(void* out, int64_t index, float v) {
  if constexpr (P == Precision::fp32) static_cast<float*>(out)[index] = v;
  if constexpr (P == Precision::bf16) static_cast<uint16_t*>(out)[index] = to_bf16(v);
  if constexpr (P == Precision::int8) static_cast<uint8_t*>(out)[index] = static_cast<uint8_t>(cut(v, 255));
}

// a[k] * b[k] summed; b is one column of a panel. int8 in int32, the others in float, k by k.
template <Precision P>
float product(const Gemm& g, int r, int panel, int c) {
  constexpr int group = Traits<P>::group;
  const char* a = static_cast<const char*>(g.a) + r * g.a_stride;
  const char* b = static_cast<const char*>(g.b) + panel * g.panel_stride;
  const int column = panel * kColumns + c;
  const void* start = g.row_start ? g.row_start : g.column_start;
  const int at = g.row_start ? r : column;
  if constexpr (P == Precision::int8) {
    int32_t sum = start ? static_cast<const int32_t*>(start)[at] : 0;
    for (int k = 0; k < g.groups * group; ++k) {
      const int64_t i = (int64_t(k / group) * kColumns + c) * group + k % group;
      sum += g.weights_are_rows ? int32_t(int8_t(a[k])) * uint8_t(b[i]) : int32_t(uint8_t(a[k])) * int8_t(b[i]);
    }
    if (g.form == Form::index && g.reach == Reach::floats) {
      float bits;
      std::memcpy(&bits, &sum, 4);
      return bits;
    }
    return static_cast<float>(sum);
  } else {
    float sum = start ? static_cast<const float*>(start)[at] : 0;
    for (int k = 0; k < g.groups * group; ++k) {
      const int64_t i = (int64_t(k / group) * kColumns + c) * group + k % group;
      if constexpr (P == Precision::fp32)
        sum += reinterpret_cast<const float*>(a)[k] * reinterpret_cast<const float*>(b)[i];
      else
        sum += from_bf16(reinterpret_cast<const uint16_t*>(a)[k]) * from_bf16(reinterpret_cast<const uint16_t*>(b)[i]);
    }
    return sum;
  }
}

template <Precision P>
void gemm(const Gemm& g) {
  constexpr int group = Traits<P>::group;
  const int bytes = bytes_of(Traits<P>::element);
  for (int panel = 0; panel < g.panels; ++panel)
    for (int r = 0; r < g.rows; ++r)
      for (int c = 0; c < kColumns; ++c) {
        const int column = panel * kColumns + c;
        float v = product<P>(g, r, panel, c);
        switch (g.form) {
          case Form::plain: break;
          case Form::columns: v = v * g.column_scale[column] + g.column_shift[column]; break;
          case Form::rows: v = v * g.row_scale[r] + g.row_shift[r]; break;
          case Form::rows_columns: v = v * g.row_scale[r] * g.column_scale[column] + g.row_shift[r]; break;
          case Form::index: v = std::fma(v, g.column_scale[column], g.column_shift[column]) - kWholeNumbers; break;
          case Form::table:
            if (g.row_scale) v = v * g.row_scale[r];
            v = v * g.column_scale[column] + g.shift[r * g.shift_stride + column];
        }
        if (g.output == Output::store) {
          g.x[r * g.x_stride + column] = v;
        } else if (g.output == Output::add) {
          g.x[r * g.x_stride + column] += v;
        } else if (g.output == Output::gelu) {
          g.x[r * g.x_stride + column] = static_cast<float>(exact_gelu(v, g.gelu));
        } else {
          float value;
          if (g.gate && P == Precision::int8)
            value = v * g.gate[r * g.gate_stride + column] + g.out_shift;
          else if (g.gate)
            value = v * g.gate[r * g.gate_stride + column];
          else if (g.table)
            value = g.table[cut(v, kEntries - 1)];
          else
            value = static_cast<float>(exact_gelu(v, g.gelu));
          if (g.output == Output::rows) {
            put<P>(static_cast<char*>(g.out) + r * g.out_stride + int64_t(column) * bytes, 0, value);
          } else {
            char* out = static_cast<char*>(g.out) + panel * g.out_stride;
            put<P>(out, (int64_t(r / group) * kColumns + c) * group + r % group, value);
          }
        }
      }
}

void statistics(const float* x, int64_t stride, int tokens, int channels, float epsilon, float* mean, float* rstd) {
  for (int t = 0; t < tokens; ++t) {
    double sum = 0, squares = 0;
    for (int c = 0; c < channels; ++c) sum += x[t * stride + c];
    const double middle = sum / channels;
    for (int c = 0; c < channels; ++c) squares += (x[t * stride + c] - middle) * (x[t * stride + c] - middle);
    mean[t] = static_cast<float>(middle);
    rstd[t] = static_cast<float>(1 / std::sqrt(squares / channels + epsilon));
  }
}

float normed(const Norm& n, int t, int c) {
  return (n.x[t * n.x_stride + c] - n.mean[t]) * n.rstd[t] * n.scale[c] + n.shift[c];
}

template <Precision P>
void norm_rows(const Norm& n, void* out, int64_t stride) {
  for (int t = 0; t < n.tokens; ++t)
    for (int c = 0; c < n.channels; ++c) put<P>(static_cast<char*>(out) + t * stride, c, normed(n, t, c));
}

template <Precision P>
void norm_panel(const Norm& n, void* out) {
  constexpr int group = Traits<P>::group;
  for (int k = 0; k < (n.tokens + group - 1) / group * group; ++k)
    for (int c = 0; c < kColumns; ++c)
      put<P>(out, (int64_t(k / group) * kColumns + c) * group + k % group, k < n.tokens ? normed(n, k, c) : 0);
}

template <Precision P>
void bytes(const uint8_t* from, int count, void* out) {
  for (int i = 0; i < count; ++i) put<P>(out, i, P == Precision::int8 ? from[i] : from[i] - 128.f);
}

void pool(const Norm& n, float* out) {
  for (int c = 0; c < kColumns; ++c) {
    double sum = 0;
    for (int t = 0; t < n.tokens; ++t) sum += (n.x[t * n.x_stride + c] - n.mean[t]) * n.rstd[t];
    out[c] = static_cast<float>(sum / n.tokens) * n.scale[c] + n.shift[c];
  }
}

void probe(int64_t iterations) {
  float sums[kRows][kColumns] = {};
  for (int64_t i = 0; i < iterations; ++i)
    for (auto& row : sums)
      for (float& sum : row) {
        sum = sum * 0.5f + 1.f;
        asm volatile("" : "+m"(sum));
      }
}

template <Precision P>
constexpr Kernels make() {
  using T = Traits<P>;
  return {"scalar", P, 0, T::element, T::element, kRows, kColumns, T::group, gemm<P>, statistics, norm_rows<P>,
          norm_panel<P>, bytes<P>, pool, probe};
}

}  // namespace

extern const Kernels scalar_fp32 = make<Precision::fp32>();
extern const Kernels scalar_bf16 = make<Precision::bf16>();
extern const Kernels scalar_int8 = make<Precision::int8>();

}  // namespace allmlp
