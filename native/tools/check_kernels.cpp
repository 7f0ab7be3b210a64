// Every kernel of the table that runs here, against the scalar reference at odd sizes: a program of its own, for
// processors that Python's tests do not reach. tests/native/test_arm.py builds it for ARM and runs it in an emulator.
// Prints a line for each kernel; ends with 1 if any number is too far from the reference's.
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "../src/buffer.h"
#include "../src/indices.h"
#include "../src/operand.h"
#include "../src/table.h"

using namespace allmlp;

namespace {

using Floats = std::vector<float>;

struct Product {
  Form form;
  Output output;
  bool weights_are_rows, gated;
};

// Numbers [rows][inner] times [inner][columns] and all that may be done to their sums.
struct Data {
  int rows, inner, columns;
  Floats a, b, row_start, column_start, row_scale, row_shift, column_scale, column_shift, shift, gate, x;
  uint8_t table[kEntries];
};

std::mt19937 engine(0);

Floats numbers(int64_t count, float low, float high) {
  Floats result(count);
  std::uniform_real_distribution<float> draw(low, high);
  for (float& value : result) value = draw(engine);
  return result;
}

Data data_of(Precision precision, const Product& p, int rows, int inner, int columns) {
  const bool int8 = precision == Precision::int8;
  const auto operand = [&](int64_t count, bool weights) {
    Floats result = numbers(count, int8 ? (weights ? -128.f : 0.f) : -1.f, int8 ? (weights ? 127.f : 255.f) : 1.f);
    for (float& value : result)
      value = int8 ? std::nearbyint(value) : precision == Precision::bf16 ? from_bf16(to_bf16(value)) : value;
    return result;
  };
  Data d{};
  d.rows = rows, d.inner = inner, d.columns = columns;
  d.a = operand(int64_t(rows) * inner, p.weights_are_rows), d.b = operand(int64_t(inner) * columns, !p.weights_are_rows);
  d.row_start = numbers(rows, -1000, 1000), d.column_start = numbers(columns, -1000, 1000);
  for (Floats* starts : {&d.row_start, &d.column_start})
    for (float& value : *starts) value = int8 ? std::nearbyint(value) : value / 1000;
  d.row_scale = numbers(rows, 0.002f, 0.02f), d.row_shift = numbers(rows, 0, 255);
  d.column_scale = numbers(columns, 0.1f, 1), d.column_shift = numbers(columns, 0, 255);
  d.shift = numbers(int64_t(rows) * columns, -1, 1), d.gate = numbers(int64_t(rows) * columns, -1, 1);
  d.x = numbers(int64_t(rows) * columns, -1, 1);
  if (int8 && p.output == Output::gelu) {  // some units wide, as networks have it: what of -1e5 is left is relative to it
    d.column_scale = numbers(columns, 3e-5f / std::sqrt(float(inner)), 3e-4f / std::sqrt(float(inner)));
    d.column_shift = numbers(columns, -1, 1);
  }
  if (p.form == Form::index) {  // beyond what 16 bits hold, and within
    const float most = (rows % 2 ? 5.f : 0.05f) / float(inner);
    d.column_scale = numbers(columns, most / 10, most);
  }
  for (int i = 0; i < kOwnEntries; ++i) d.table[i] = uint8_t(i * 37 + 11);
  for (int i = kOwnEntries; i < kEntries; ++i) d.table[i] = uint8_t(std::min(255, d.table[i - 1] + rows % 2));
  return d;
}

// The numbers of `from` [rows][columns] with rows of `width`.
Floats widened(const Floats& from, int rows, int columns, int64_t all_rows, int64_t width) {
  Floats result(all_rows * width);
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c) result[r * width + c] = from[int64_t(r) * columns + c];
  return result;
}

Floats padded(Floats values, int64_t count, bool whole = false) {
  values.resize(count);
  if (whole)
    for (float& value : values) {
      const int32_t number = int32_t(value);
      std::memcpy(&value, &number, 4);
    }
  return values;
}

// Where a number of an operand lies.
struct Places {
  const Kernels& k;
  int64_t stride;
  int64_t row(int64_t r, int64_t i) const { return r * stride + i * bytes_of(k.row); }
  int64_t panel(int64_t c, int64_t i) const {
    return c / k.columns * stride + ((i / k.group * k.columns + c % k.columns) * k.group + i % k.group) * bytes_of(k.panel);
  }
};

Floats product(const Kernels& k, const Product& p, const Data& d) {
  const bool int8 = k.precision == Precision::int8;
  const int64_t all = round_up(d.columns, k.columns), panels = all / k.columns, inner = round_up(d.inner, k.group);
  Gemm g{};
  g.form = p.form, g.output = p.output, g.weights_are_rows = p.weights_are_rows;
  g.rows = int(p.output == Output::panels ? round_up(d.rows, k.group) : d.rows);
  g.panels = int(panels), g.groups = int(inner / k.group);
  const Places rows{k, row_stride(inner * bytes_of(k.row))}, columns{k, inner * k.columns * bytes_of(k.panel)};
  Buffer a(g.rows * rows.stride), b(panels * columns.stride);
  for (int r = 0; r < d.rows; ++r)
    for (int i = 0; i < d.inner; ++i) put(k.row, a.bytes() + rows.row(r, i), d.a[int64_t(r) * d.inner + i]);
  for (int c = 0; c < d.columns; ++c)
    for (int i = 0; i < d.inner; ++i) put(k.panel, b.bytes() + columns.panel(c, i), d.b[int64_t(i) * d.columns + c]);
  g.a = a.bytes(), g.a_stride = rows.stride, g.b = b.bytes(), g.panel_stride = columns.stride;
  const Floats starts = padded(p.weights_are_rows ? d.row_start : d.column_start, p.weights_are_rows ? g.rows : all, int8);
  (p.weights_are_rows ? g.row_start : g.column_start) = starts.data();
  const Floats rs = padded(d.row_scale, g.rows), rh = padded(d.row_shift, g.rows);
  Floats cs = padded(d.column_scale, all), ch = padded(d.column_shift, all);
  std::vector<int32_t> whole(all);
  if (p.form == Form::index) {
    std::memcpy(whole.data(), starts.data(), whole.size() * 4);
    const std::vector<int64_t> largest = largest_sums(d.b.data(), d.inner, d.columns, whole.data());
    g.reach = to_indices(whole.data(), cs.data(), ch.data(), largest.data(), d.columns, all);
    g.column_start = whole.data();
  }
  g.row_scale = rs.data(), g.row_shift = rh.data(), g.column_scale = cs.data(), g.column_shift = ch.data();
  const Floats shift = widened(d.shift, d.rows, d.columns, g.rows, all);
  Floats gate = widened(d.gate, d.rows, d.columns, g.rows, all);
  for (float& factor : gate) factor *= 0.5f;
  g.shift = shift.data(), g.shift_stride = all;
  if (p.gated) g.gate = gate.data(), g.gate_stride = all, g.out_shift = 128;
  if (int8) g.table = d.table, g.goes_on = goes_on(d.table);
  Floats x = widened(d.x, d.rows, d.columns, g.rows, all);
  g.x = x.data(), g.x_stride = all;
  const Places out_rows{k, row_stride(all * bytes_of(k.row))};
  const Places out_panels{k, int64_t(g.rows) * k.columns * bytes_of(k.panel)};
  const bool to_rows = p.output == Output::rows, to_panels = p.output == Output::panels;
  Buffer out(to_rows ? g.rows * out_rows.stride : panels * out_panels.stride);
  g.out = out.bytes(), g.out_stride = to_rows ? out_rows.stride : out_panels.stride;
  k.gemm(g);
  Floats result;
  for (int r = 0; r < d.rows; ++r)
    for (int c = 0; c < d.columns; ++c)
      result.push_back(to_rows     ? get(k.row, out.bytes() + out_rows.row(r, c))
                       : to_panels ? get(k.panel, out.bytes() + out_panels.panel(c, r))
                                   : x[r * all + c]);
  return result;
}

// LayerNorm as rows and as panels, its statistics, pooling, and bytes of images: one after the other.
Floats others(const Kernels& k, int tokens, int channels) {
  engine.seed(tokens * 1000 + channels);
  const int64_t all = round_up(channels, k.columns), whole = round_up(tokens, k.group);
  const Floats x = widened(numbers(int64_t(tokens) * channels, -3, 7), tokens, channels, tokens, all);
  const Floats scale = padded(numbers(channels, 5, 30), all), shift = padded(numbers(channels, 100, 150), all);
  Floats mean(tokens), rstd(tokens), result, pooled(all);
  k.statistics(x.data(), all, tokens, channels, 1e-6f, mean.data(), rstd.data());
  result.insert(result.end(), mean.begin(), mean.end());
  result.insert(result.end(), rstd.begin(), rstd.end());
  Norm n{x.data(), all, mean.data(), rstd.data(), scale.data(), shift.data(), int(all), tokens};
  const Places rows{k, row_stride(all * bytes_of(k.row))}, panels{k, whole * k.columns * bytes_of(k.panel)};
  Buffer as_rows(tokens * rows.stride), as_panels(all / k.columns * panels.stride), of_bytes(256 * 4);
  k.norm_rows(n, as_rows.bytes(), rows.stride);
  for (int64_t c = 0; c < all; c += k.columns) {
    n.x = x.data() + c, n.scale = scale.data() + c, n.shift = shift.data() + c;
    k.norm_panel(n, as_panels.bytes() + c / k.columns * panels.stride);
    k.pool(n, pooled.data() + c);
  }
  for (int t = 0; t < tokens; ++t)
    for (int c = 0; c < channels; ++c) {
      result.push_back(get(k.row, as_rows.bytes() + rows.row(t, c)));
      result.push_back(get(k.panel, as_panels.bytes() + panels.panel(c, t)));
    }
  result.insert(result.end(), pooled.begin(), pooled.begin() + channels);
  uint8_t every[256];
  for (int i = 0; i < 256; ++i) every[i] = uint8_t(i);
  k.bytes(every, 256, of_bytes.bytes());
  for (int i = 0; i < 256; ++i) result.push_back(get(k.row, of_bytes.bytes() + i * bytes_of(k.row)));
  return result;
}

// How many numbers lie farther from the reference's than `absolute` plus `relative` of them.
int64_t wrong(const Floats& got, const Floats& expected, float absolute, float relative) {
  int64_t count = got.size() != expected.size();
  for (size_t i = 0; i < got.size() && i < expected.size(); ++i)
    count += !(std::fabs(got[i] - expected[i]) <= absolute + relative * std::fabs(expected[i]));
  return count;
}

std::vector<Product> products(Precision precision) {
  if (precision == Precision::int8)
    return {{Form::plain, Output::store, false, false},     {Form::plain, Output::store, true, false},
            {Form::index, Output::rows, false, false},      {Form::columns, Output::add, false, false},
            {Form::columns, Output::store, false, false},   {Form::columns, Output::gelu, false, false},
            {Form::rows, Output::add, true, false},         {Form::table, Output::add, true, false},
            {Form::rows_columns, Output::panels, true, false}, {Form::rows_columns, Output::rows, true, true}};
  std::vector<Product> result;
  for (bool rows : {false, true})
    for (Output output : {Output::store, Output::add, Output::gelu, Output::rows, Output::panels})
      result.push_back({Form::plain, output, rows, false});
  result.push_back({Form::plain, Output::rows, true, true});
  result.push_back({Form::table, Output::add, true, false});
  return result;
}

constexpr float kGelu = 3e-6f, kGeluBf16 = 4e-4f;           // see fit_gelu.py
constexpr float kRelative = 2e-6f, kRelativeBf16 = 0x1p-7f;  // of floats; of operands in bf16, whose last bit may differ

// Whole sums, and the bytes that follow from them, are equal; a level may multiply by a gate with one rounding less, which
// makes the next byte of one that lies on the edge. The others were summed in another order.
bool exact(Precision precision, const Product& p) { return precision == Precision::int8 && p.output != Output::gelu; }

float absolute(Precision precision, const Product& p, int inner) {
  if (exact(precision, p)) return p.gated ? 1 : 0;
  const float sums = precision == Precision::int8 ? 0 : 1.2e-7f * float(inner + 3) * 2;
  const bool has_gelu = p.output != Output::store && p.output != Output::add && !p.gated;
  // In int8 a level may take GELU from the pieces that it has for bf16.
  return sums + (!has_gelu ? 0 : precision == Precision::fp32 ? kGelu : kGeluBf16);
}

float relative(Precision precision, const Product& p) {
  const bool operand = p.output == Output::rows || p.output == Output::panels;
  return exact(precision, p) ? 0 : precision == Precision::bf16 && operand ? kRelativeBf16 : kRelative;
}

int64_t check(const Kernels& k, int64_t& compared) {
  const Kernels& reference = find_kernels("scalar", k.precision);
  int64_t bad = 0;
  const auto compare = [&](const Floats& got, const Floats& expected, float absolute, float relative) {
    bad += wrong(got, expected, absolute, relative);
    compared += int64_t(got.size());
  };
  const auto check_product = [&](const Product& p, int rows, int inner, int columns) {
    if (rows < 1 || columns < 1) return;
    const Data d = data_of(k.precision, p, rows, inner, columns);
    compare(product(k, p, d), product(reference, p, d), absolute(k.precision, p, inner), relative(k.precision, p));
  };
  for (const Product& p : products(k.precision)) {
    for (int rows : {1, k.rows - 1, k.rows, k.rows + 1, 31})
      for (int inner : {1, k.group + 1, 67})
        for (int columns : {1, k.columns - 1, k.columns, k.columns + 1, 37}) check_product(p, rows, inner, columns);
    check_product(p, k.rows + 1, 1031, k.columns + 1);  // several blocks of k
    check_product(p, 17 * k.rows + 1, 531, 1);          // and more tiles than are under way at once
  }
  const bool bf16 = k.precision == Precision::bf16;
  for (int tokens : {1, 5, 17})
    for (int channels : {1, k.columns - 1, k.columns + 1, 67})
      compare(others(k, tokens, channels), others(reference, tokens, channels),
              k.precision == Precision::int8 ? 1 : 1e-4f, bf16 ? kRelativeBf16 : 1e-5f);
  return bad;
}

}  // namespace

int main() {
  int64_t all_bad = 0;
  for (const Kernels* k : all_kernels()) {
    if (std::string(k->level) == "scalar") continue;
    if (!runs_here(*k)) {
      std::printf("%s %s: does not run here\n", k->level, name_of(k->precision));
      continue;
    }
    engine.seed(0);
    int64_t compared = 0;
    const int64_t bad = check(*k, compared);
    std::printf("%s %s: %lld of %lld wrong\n", k->level, name_of(k->precision), static_cast<long long>(bad),
                static_cast<long long>(compared));
    std::fflush(stdout);
    all_bad += bad;
  }
  return all_bad != 0;
}
