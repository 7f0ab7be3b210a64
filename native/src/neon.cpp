// ARM's 64-bit processors: 32 registers of 128 bits, a tile of 12 rows and 8 columns. bf16 runs as floats that were
// rounded to bf16. int8 multiplies signed by unsigned bytes with I8MM; with the older dot product of two signed ones,
// w * v = w * (v - 128) - w * -128, where the second part is shared by a row or by a column of the tile.
#include <arm_neon.h>

#include <type_traits>

#include "vector.h"

namespace allmlp {
namespace {

constexpr int W = 4, kRows = 12;
constexpr int kBlock = PRECISION == 2 ? 1 << 20 : 512;  // 16 KB: half of L1, or a quarter
constexpr int kRowsTogether = 1;
using F = float32x4_t;
using I = int32x4_t;
#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))
#define HIDE(v) asm volatile("" : "+w"(v))

INLINE F load(const float* p) { return vld1q_f32(p); }
INLINE I load(const int32_t* p) { return vld1q_s32(p); }
INLINE void store(float* p, F v) { vst1q_f32(p, v); }
INLINE F set1(float v) { return vdupq_n_f32(v); }
INLINE I set1(int32_t v) { return vdupq_n_s32(v); }
INLINE F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
INLINE F vmin(F a, F b) { return vminq_f32(a, b); }
INLINE F vmax(F a, F b) { return vmaxq_f32(a, b); }
INLINE F to_float(I v) { return vcvtq_f32_s32(v); }
INLINE F to_float(F v) { return v; }
INLINE float sum(F v) { return vaddvq_f32(v); }
INLINE I cut(F v, float most) {  // NaN becomes 0: maxnm gives the operand that is a number
  return vcvtnq_s32_f32(vminnmq_f32(vmaxnmq_f32(v, set1(0.f)), set1(most)));
}
INLINE I cut_byte(F v) { return cut(v, 255.f); }

#ifdef I8MM
constexpr const char* level = "neon-i8mm";
constexpr uint32_t features = kArmI8mm;
#else
constexpr const char* level = "neon";
constexpr uint32_t features = PRECISION == 2 ? uint32_t{kArmDotProduct} : 0;
#endif

#if PRECISION != 2
constexpr Element element = PRECISION == 0 ? Element::f32 : Element::f32_of_bf16;
INLINE F rounded(F v) {
  if (PRECISION == 0) return v;
  const uint32x4_t bits = vreinterpretq_u32_f32(v), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  const uint32x4_t result = vandq_u32(up, vdupq_n_u32(0xffff0000));
  return vbslq_f32(vceqq_f32(v, v), vreinterpretq_f32_u32(result), v);  // NaN stays NaN
}
}  // namespace
}  // namespace allmlp
#include "floats.inc"
namespace allmlp {
namespace {
#else
using Acc = I;
using Operand = int8x16_t;
constexpr Element element = Element::i8;
constexpr int group = 4;
INLINE Operand load_panel(const char* p) { return vld1q_s8(reinterpret_cast<const int8_t*>(p)); }
INLINE Operand broadcast(const char* p) {
  int32_t v;
  __builtin_memcpy(&v, p, 4);
  return vreinterpretq_s8_s32(vdupq_n_s32(v));
}
template <bool weights_are_rows>
INLINE void step(Acc& acc, Operand a, Operand b) {
  const Operand weights = weights_are_rows ? a : b, values = weights_are_rows ? b : a;
#ifdef I8MM
  acc = vusdotq_s32(acc, vreinterpretq_u8_s8(values), weights);
#else
  const I minus = vdotq_s32(set1(0), weights, vdupq_n_s8(-128));
  acc = vdotq_s32(acc, weights, veorq_s8(values, vdupq_n_s8(-128))) - minus;
#endif
}
INLINE uint8x8_t narrowed(I i0, I i1) {
  return vmovn_u16(vreinterpretq_u16_s16(vcombine_s16(vmovn_s32(i0), vmovn_s32(i1))));
}
INLINE void put_row(char* out, F v0, F v1) {
  vst1_u8(reinterpret_cast<uint8_t*>(out), narrowed(cut_byte(v0), cut_byte(v1)));
}
INLINE I joined(const F* v) {
  return vorrq_s32(vorrq_s32(cut_byte(v[0]), vshlq_n_s32(cut_byte(v[1]), 8)),
                   vorrq_s32(vshlq_n_s32(cut_byte(v[2]), 16), vshlq_n_s32(cut_byte(v[3]), 24)));
}
INLINE void put_group(char* out, const F* v) { vst1q_s32(reinterpret_cast<int32_t*>(out), joined(v)); }
// Instructions look up in 64 entries at most, and 512 would fill all registers: each index by itself.
INLINE void put_row_table(char* out, F v0, F v1, const Gemm* g) {
  const uint8_t* table = g->table;
  int32_t index[2 * W];
  vst1q_s32(index, cut(v0, kEntries - 1)), vst1q_s32(index + W, cut(v1, kEntries - 1));
#pragma GCC unroll 8
  for (int i = 0; i < 2 * W; ++i) reinterpret_cast<uint8_t*>(out)[i] = table[index[i]];
}
INLINE void put_group_table(char* out, const F* v, const Gemm* g) {
  const uint8_t* table = g->table;
  int32_t index[4][W];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) vst1q_s32(index[i], cut(v[i], kEntries - 1));
#pragma GCC unroll 16
  for (int i = 0; i < 4 * W; ++i) reinterpret_cast<uint8_t*>(out)[i] = table[index[i % 4][i / 4]];
}
#endif

}  // namespace
}  // namespace allmlp

#include "kernels.inc"
