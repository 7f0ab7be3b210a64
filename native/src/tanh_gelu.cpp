// GELU's tanh form, compiled once per precision (PRECISION 0: fp32, 1: bf16) and instruction set.
//
//     y = x s,  dy/dx = s + x s (1 - s) dz/dx,  s = 1 / (1 + exp(-z)),  z = 2 sqrt(2/pi) (x + 0.044715 x³)
//
// which is x (1 + tanh(z / 2)) / 2 without what that loses where tanh is near -1. The vectors are GCC's and Clang's own,
// of the width of the registers there are; the compiler may contract to fused multiply-adds, so levels differ in the last bits.
#include "tanh_gelu.h"

#include <cstring>
#include <type_traits>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "cpu.h"

namespace allmlp {
namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * kWidth)));
typedef uint32_t Bits __attribute__((vector_size(4 * kWidth)));
typedef uint16_t Halves __attribute__((vector_size(2 * kWidth)));

constexpr bool kBf16 = PRECISION == 1;
using Stored = std::conditional_t<kBf16, uint16_t, float>;

constexpr float kSlope = 1.5957691216f, kCubic = 0.0713548163f;  // z = kSlope x + kCubic x³
constexpr float kLog2E = 1.4426950409f;
constexpr float kCut = 9.9f;             // |x| from where s counts as 0 or 1; exp(-z) stays below 2^123
constexpr float kInteger = 12582912.0f;  // 1.5 · 2^23: what is added to it is rounded to an integer
constexpr int kExponent = 23;            // bits below a float's exponent

inline Floats all(float value) { return Floats{} + value; }

// Where x is not a number, what comes out isn't either.
inline Floats at_least(float least, Floats x) {
#if defined(__AVX512F__)
  return Floats(_mm512_max_ps(_mm512_set1_ps(least), __m512(x)));
#else
  return x < least ? all(least) : x;
#endif
}

inline Floats at_most(float most, Floats x) {
#if defined(__AVX512F__)
  return Floats(_mm512_min_ps(_mm512_set1_ps(most), __m512(x)));
#else
  return x > most ? all(most) : x;
#endif
}

// 2^t for |t| < 126: a polynomial on [-1/2, 1/2], whose relative error is below 1.6e-7 (bf16: 2.7e-6), and its exponent
// moved by the nearest integer. The coefficients are minimax ones, fitted by Lawson's weighted least squares.
inline Floats power_of_two(Floats t) {
  const Floats shifted = t + kInteger;
  const Floats rest = t - (shifted - kInteger);
  Floats p;
  if constexpr (kBf16) {
    p = rest * 0.00957016088f + 0.0559178293f;
    p = p * rest + 0.240247428f;
    p = p * rest + 0.693121791f;
    p = p * rest + 0.999999285f;
  } else {
    p = rest * 0.00132764981f + 0.0096755391f;
    p = p * rest + 0.0555071309f;
    p = p * rest + 0.240221202f;
    p = p * rest + 0.693146944f;
    p = p * rest + 1.00000012f;
  }
  return Floats(Bits(p) + (Bits(shifted) << kExponent));
}

inline Floats sigmoid(Floats x, Floats square) {
  return 1.0f / (1.0f + power_of_two(x * (square * (-kCubic * kLog2E) + -kSlope * kLog2E)));
}

inline Floats value(Floats x) {
  const Floats low = at_least(-kCut, x), near = at_most(kCut, low);
  return low * sigmoid(near, near * near);
}

inline Floats gradient(Floats x, Floats of_y) {
  const Floats near = at_most(kCut, at_least(-kCut, x)), square = near * near;
  const Floats s = sigmoid(near, square);
  return of_y * (s + near * (s - s * s) * (square * (3 * kCubic) + kSlope));
}

inline Floats load(const Stored* from) {
  if constexpr (kBf16) {
    Halves upper;
    std::memcpy(&upper, from, sizeof upper);
    return Floats(__builtin_convertvector(upper, Bits) << 16);
  } else {
    Floats x;
    std::memcpy(&x, from, sizeof x);
    return x;
  }
}

inline void store(Stored* to, Floats x) {
  if constexpr (kBf16) {
#if defined(__AVX512BF16__)
    const __m256bh rounded = _mm512_cvtneps_pbh(__m512(x));
    std::memcpy(to, &rounded, sizeof rounded);
#else
    const Bits bits = Bits(x);
    const Bits rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    const Bits nan = bits >> 16 | 0x40u;
    const Halves upper = __builtin_convertvector(Bits(x != x ? nan : rounded), Halves);
    std::memcpy(to, &upper, sizeof upper);
#endif
  } else {
    std::memcpy(to, &x, sizeof x);
  }
}

// What is left over is computed in vectors too, so that a number's result does not depend on its place.
template <class Function>
void over(int64_t count, const Stored* x, const Stored* of_y, Stored* to, Function function) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(to + i, function(load(x + i), of_y ? load(of_y + i) : Floats{}));
  if (i == count) return;
  Stored some[2][kWidth] = {}, result[kWidth];
  const size_t bytes = size_t(count - i) * sizeof(Stored);
  std::memcpy(some[0], x + i, bytes);
  if (of_y) std::memcpy(some[1], of_y + i, bytes);
  store(result, function(load(some[0]), load(some[1])));
  std::memcpy(to + i, result, bytes);
}

void values(const void* x, void* y, int64_t count) {
  over(count, static_cast<const Stored*>(x), nullptr, static_cast<Stored*>(y),
       [](Floats x, Floats) { return value(x); });
}

void gradients(const void* x, const void* of_y, void* of_x, int64_t count) {
  over(count, static_cast<const Stored*>(x), static_cast<const Stored*>(of_y), static_cast<Stored*>(of_x),
       [](Floats x, Floats of_y) { return gradient(x, of_y); });
}

#if defined(__AVX512F__)
constexpr const char* kLevel = "avx512";
constexpr uint32_t kFeatures = kAvx512 | (kBf16 ? kAvx512Bf16 : 0);
#elif defined(__AVX2__)
constexpr const char* kLevel = "avx2";
constexpr uint32_t kFeatures = kAvx2Fma;
#else
constexpr const char* kLevel = "portable";
constexpr uint32_t kFeatures = 0;
#endif

}  // namespace

extern const TanhGelu KERNELS;
const TanhGelu KERNELS = {kLevel, static_cast<Precision>(PRECISION), kFeatures, &values, &gradients};

}  // namespace allmlp
