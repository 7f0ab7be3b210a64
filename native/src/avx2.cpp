// AVX2 and FMA: 16 registers of 256 bits, a tile of 6 rows and 16 columns. There is no narrow product: bf16 runs as
// floats that were rounded to bf16, int8 as 16-bit integers (two products and their sum in each 32-bit lane, exact).
#include <immintrin.h>

#include <type_traits>

#include "vector.h"

namespace allmlp {
namespace {

constexpr int W = 8, kRows = 6;
constexpr int kBlock = PRECISION == 2 ? 1 << 20 : 256;  // 16 KB: half of L1
constexpr int kRowsTogether = 1;
using F = __m256;
using I = __v8si;
#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))
#define HIDE(v) asm volatile("" : "+x"(v))

INLINE F load(const float* p) { return _mm256_loadu_ps(p); }
INLINE I load(const int32_t* p) { return I(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
INLINE void store(float* p, F v) { _mm256_storeu_ps(p, v); }
INLINE F set1(float v) { return _mm256_set1_ps(v); }
INLINE I set1(int32_t v) { return I(_mm256_set1_epi32(v)); }
INLINE F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
INLINE F vmin(F a, F b) { return _mm256_min_ps(a, b); }
INLINE F vmax(F a, F b) { return _mm256_max_ps(a, b); }
INLINE F to_float(I v) { return _mm256_cvtepi32_ps(__m256i(v)); }
INLINE F to_float(F v) { return v; }
INLINE float sum(F v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
INLINE __m256i cut(F v, float most) {  // NaN becomes 0: max gives its second operand then
  return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, _mm256_setzero_ps()), _mm256_set1_ps(most)));
}
INLINE __m256i cut_byte(F v) { return cut(v, 255); }

constexpr const char* level = "avx2";
constexpr uint32_t features = kAvx2Fma;

#if PRECISION != 2
constexpr Element element = PRECISION == 0 ? Element::f32 : Element::f32_of_bf16;
INLINE F rounded(F v) {
  if (PRECISION == 0) return v;
  const __m256i bits = _mm256_castps_si256(v), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const F result = _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32(int(0xffff0000))));
  return _mm256_blendv_ps(result, v, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
}
}  // namespace
}  // namespace allmlp
#include "floats.inc"
namespace allmlp {
namespace {
#else
using Acc = I;
using Operand = __m256i;
constexpr Element element = Element::i16;
constexpr int group = 2;
INLINE Operand load_panel(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
INLINE Operand broadcast(const char* p) {
  return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(p)));
}
template <bool>
INLINE void step(Acc& acc, Operand a, Operand b) { acc += I(_mm256_madd_epi16(a, b)); }
INLINE void put_row(char* out, F v0, F v1) {
  const __m256i words = _mm256_packus_epi32(cut_byte(v0), cut_byte(v1));  // per half: v0's, v1's
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permute4x64_epi64(words, 0xd8));
}
INLINE void put_group(char* out, const F* v) {
  const __m256i words = _mm256_or_si256(cut_byte(v[0]), _mm256_slli_epi32(cut_byte(v[1]), 16));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), words);
}
// The table has no instruction here: the indices go to memory, and each is looked up by itself.
INLINE void put_row_table(char* out, F v0, F v1, const Gemm* g) {
  const uint8_t* table = g->table;
  alignas(32) uint32_t index[2 * W];
  _mm256_store_si256(reinterpret_cast<__m256i*>(index), cut(v0, kEntries - 1));
  _mm256_store_si256(reinterpret_cast<__m256i*>(index + W), cut(v1, kEntries - 1));
#pragma GCC unroll 16
  for (int i = 0; i < 2 * W; ++i) reinterpret_cast<uint16_t*>(out)[i] = table[index[i]];
}
INLINE void put_group_table(char* out, const F* v, const Gemm* g) {
  const uint8_t* table = g->table;
  alignas(32) uint32_t index[2 * W];
  _mm256_store_si256(reinterpret_cast<__m256i*>(index), cut(v[0], kEntries - 1));
  _mm256_store_si256(reinterpret_cast<__m256i*>(index + W), cut(v[1], kEntries - 1));
#pragma GCC unroll 8
  for (int i = 0; i < W; ++i)
    reinterpret_cast<uint32_t*>(out)[i] = table[index[i]] | uint32_t(table[index[i + W]]) << 16;
}
#endif

}  // namespace
}  // namespace allmlp

#include "kernels.inc"
