// Any processor: 512-bit vectors in the compiler's own notation, which it splits into what there is (SSE2, NEON, …).
// Operands and order of sums are those of AVX-512, so that testing this tests all of that but its instructions.
#include <type_traits>

#include "vector.h"

namespace allmlp {
namespace {

constexpr int W = 16, kRows = 4;
constexpr int kBlock = 64;  // small, so that tests see many blocks
constexpr int kRowsTogether = 1;
typedef float F __attribute__((vector_size(64), may_alias));
typedef int32_t I __attribute__((vector_size(64), may_alias));
typedef float LooseF __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t LooseI __attribute__((vector_size(64), aligned(4), may_alias));
#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))
#define HIDE(v) asm volatile("" : "+m"(v))

INLINE F load(const float* p) { return *reinterpret_cast<const LooseF*>(p); }
INLINE I load(const int32_t* p) { return *reinterpret_cast<const LooseI*>(p); }
INLINE void store(float* p, F v) { *reinterpret_cast<LooseF*>(p) = v; }
INLINE F set1(float v) { return F{} + v; }
INLINE I set1(int32_t v) { return I{} + v; }
INLINE F fma(F a, F b, F c) { return a * b + c; }
#define FMA_ROUNDS_TWICE
INLINE F fma_once(F a, F b, F c) {  // the product is exact as a double; what the sum loses there is a millionth of a step
  for (int i = 0; i < W; ++i) a[i] = float(double(a[i]) * double(b[i]) + double(c[i]));
  return a;
}
INLINE F vmin(F a, F b) { return a < b ? a : b; }
INLINE F vmax(F a, F b) { return a > b ? a : b; }
INLINE F to_float(I v) { return __builtin_convertvector(v, F); }
INLINE F to_float(F v) { return v; }
INLINE float sum(F v) {
  float total = 0;
  for (int i = 0; i < W; ++i) total += v[i];
  return total;
}
// To 0..most, rounded to nearest, ties to even: 1.5 * 2^23 has no fraction left.
INLINE I cut(F v, float most) {
  v = vmin(vmax(v, set1(0.f)), set1(most)) + 12582912.f;
  return reinterpret_cast<I&>(v) - 0x4b400000;
}
INLINE I cut_byte(F v) { return cut(v, 255.f); }

constexpr const char* level = "portable";
constexpr uint32_t features = 0;

#if PRECISION == 0
constexpr Element element = Element::f32;
INLINE F rounded(F v) { return v; }
}  // namespace
}  // namespace allmlp
#include "floats.inc"
namespace allmlp {
namespace {
#else
using Operand = I;
INLINE Operand load_panel(const char* p) { return load(reinterpret_cast<const int32_t*>(p)); }
INLINE Operand broadcast(const char* p) {
  int32_t v;
  __builtin_memcpy(&v, p, 4);
  return set1(v);
}
#endif

#if PRECISION == 1
using Acc = F;
constexpr Element element = Element::bf16;
constexpr int group = 2;
template <bool>
INLINE void step(Acc& acc, Operand a, Operand b) {
  const I a0 = a << 16, b0 = b << 16, a1 = a & I(set1(int32_t(0xffff0000))), b1 = b & I(set1(int32_t(0xffff0000)));
  acc += F(a0) * F(b0);
  acc += F(a1) * F(b1);
}
INLINE void put_row(char* out, F v0, F v1) {
  uint16_t* to = reinterpret_cast<uint16_t*>(out);
  for (int i = 0; i < W; ++i) to[i] = to_bf16(v0[i]), to[i + W] = to_bf16(v1[i]);
}
INLINE void put_group(char* out, const F* v) {
  uint16_t* to = reinterpret_cast<uint16_t*>(out);
  for (int i = 0; i < W; ++i) to[2 * i] = to_bf16(v[0][i]), to[2 * i + 1] = to_bf16(v[1][i]);
}
#endif

#if PRECISION == 2
using Acc = I;
constexpr Element element = Element::i8;
constexpr int group = 4;
template <bool weights_are_rows>
INLINE void step(Acc& acc, Operand a, Operand b) {
  const Operand weights = weights_are_rows ? a : b, values = weights_are_rows ? b : a;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) acc += (weights << (24 - 8 * i) >> 24) * (values >> (8 * i) & 255);
}
INLINE void put_row(char* out, F v0, F v1) {
  const I i0 = cut_byte(v0), i1 = cut_byte(v1);
  for (int i = 0; i < W; ++i) out[i] = char(i0[i]), out[i + W] = char(i1[i]);
}
INLINE void put_row_table(char* out, F v0, F v1, const Gemm* g) {
  const uint8_t* table = g->table;
  const I i0 = cut(v0, kEntries - 1), i1 = cut(v1, kEntries - 1);
  for (int i = 0; i < W; ++i) out[i] = char(table[i0[i]]), out[i + W] = char(table[i1[i]]);
}
INLINE void put_group(char* out, const F* v) {
  const I i = cut_byte(v[0]) | cut_byte(v[1]) << 8 | cut_byte(v[2]) << 16 | cut_byte(v[3]) << 24;
  *reinterpret_cast<LooseI*>(out) = i;
}
INLINE void put_group_table(char* out, const F* v, const Gemm* g) {
  const uint8_t* table = g->table;
  I index[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) index[i] = cut(v[i], kEntries - 1);
  for (int i = 0; i < 4 * W; ++i) out[i] = char(table[index[i % 4][i / 4]]);
}
#endif

}  // namespace
}  // namespace allmlp

#include "kernels.inc"
