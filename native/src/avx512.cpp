// AVX-512: 32 registers of 512 bits, a tile of 14 rows and 32 columns. fp32 needs F, BW, DQ, VL; bf16 BF16; int8 VNNI
// and VBMI. The multiplication is one instruction in assembly: given intrinsics, g++ 12 keeps copies of accumulators
// in memory, which costs most of the speed.
#include <immintrin.h>

#include <type_traits>

#include "vector.h"

namespace allmlp {
namespace {

constexpr int W = 16, kRows = 14;
constexpr int kBlock = 1 << 20;  // no need: a tile reads little for what it computes
constexpr int kRowsTogether = PRECISION == 2 ? 2 : 1;  // 64 bytes
using F = __m512;
using I = __v16si;
#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))
#define HIDE(v) asm volatile("" : "+v"(v))

INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
INLINE I load(const int32_t* p) { return I(_mm512_loadu_si512(p)); }
INLINE void store(float* p, F v) { _mm512_storeu_ps(p, v); }
INLINE F set1(float v) { return _mm512_set1_ps(v); }
INLINE I set1(int32_t v) { return I(_mm512_set1_epi32(v)); }
INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
INLINE F vmin(F a, F b) { return _mm512_min_ps(a, b); }
INLINE F vmax(F a, F b) { return _mm512_max_ps(a, b); }
INLINE F to_float(I v) { return _mm512_cvtepi32_ps(__m512i(v)); }
INLINE F to_float(F v) { return v; }
INLINE float sum(F v) { return _mm512_reduce_add_ps(v); }
constexpr const char* level = "avx512";

#if PRECISION == 0
using Acc = F;
using Operand = F;
constexpr uint32_t features = kAvx512;
constexpr Element element = Element::f32;
constexpr int group = 1;
INLINE Operand load_panel(const char* p) { return _mm512_loadu_ps(p); }
INLINE Operand broadcast(const char* p) { return _mm512_set1_ps(*reinterpret_cast<const float*>(p)); }
template <bool>
INLINE void step(Acc& acc, Operand a, Operand b) { asm("vfmadd231ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b)); }
INLINE void put_row(char* out, F v0, F v1) {
  _mm512_storeu_ps(out, v0);
  _mm512_storeu_ps(out + 64, v1);
}
INLINE void put_group(char* out, const F* v) { _mm512_storeu_ps(out, v[0]); }
#else
using Operand = __m512i;
INLINE Operand load_panel(const char* p) { return _mm512_loadu_si512(p); }
INLINE Operand broadcast(const char* p) { return _mm512_castps_si512(_mm512_set1_ps(*reinterpret_cast<const float*>(p))); }
#endif

// GELU as max(x, 0) and an even function in 16 pieces of |x|, see tools/fit_gelu.py: few products, in place of those of a long
// polynomial, which would delay the sums'. 1.5 * 2^23 has ones as its last bit and 1.5 * 2^21 quarters, so that what is
// added to it is rounded to one, whose number the lowest bits are.
#define GELU_BY_PIECES
INLINE F piece_of(const float* table, F index) {
  return _mm512_permutexvar_ps(_mm512_castps_si512(index), _mm512_loadu_ps(table));
}
template <int degree>
INLINE F polynomial(const float (*table)[16], F index, F x) {
  F sum = piece_of(table[degree], index);
#pragma GCC unroll 8
  for (int i = degree - 1; i >= 0; --i) sum = fma(sum, x, piece_of(table[i], index));
  return sum;
}
INLINE F smaller_magnitude(F x, float most) { return _mm512_range_ps(x, set1(most), 10); }  // of |x| and that

#if PRECISION != 1  // in int8 of gMLP too: what is rounded to bytes behind it must not fall otherwise here than elsewhere
INLINE F gelu_by_pieces(F x, int form) {
  const F per_unit = set1(gelu_float_per_unit), shift = set1(float(3 << 22));
  const F u = smaller_magnitude(x, 15 / gelu_float_per_unit), index = fma(u, per_unit, shift);
  const F distance = fma(u, per_unit, shift - index);
  return vmax(set1(0.f), x) + polynomial<gelu_float_pieces_degree>(gelu_float_pieces[form], index, distance);
}
#else
// What only the adders' pipes can do is spared: look-ups of 16 numbers, unlike those of 32, and whole numbers' maximum
// run beside both.
INLINE F gelu_by_pieces(F x, int form) {
  const F u = smaller_magnitude(x, 3.75f);  // further out nothing changes
  const F above = F(_mm512_max_epi32(_mm512_castps_si512(x), _mm512_setzero_si512()));  // max(x, 0)
  return above + polynomial<2>(gelu_pieces[form], u + set1(float(3 << 20)), u);
}
#endif

#if PRECISION == 1
using Acc = F;
constexpr uint32_t features = kAvx512 | kAvx512Bf16;
constexpr Element element = Element::bf16;
constexpr int group = 2;
template <bool>
INLINE void step(Acc& acc, Operand a, Operand b) { asm("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b)); }
INLINE void put_row(char* out, F v0, F v1) {
  _mm512_storeu_si512(out, (__m512i)_mm512_cvtne2ps_pbh(v1, v0));
}
INLINE void put_group(char* out, const F* v) {
  const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(v[0]));
  const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(v[1]));
  _mm512_storeu_si512(out, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}
#endif

#if PRECISION == 2
using Acc = I;
constexpr uint32_t features = kAvx512 | kAvx512Vnni;
constexpr Element element = Element::i8;
constexpr int group = 4;
template <bool weights_are_rows>  // the instruction takes unsigned, then signed bytes
INLINE void step(Acc& acc, Operand a, Operand b) {
  if (weights_are_rows)
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(b), "v"(a));
  else
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
}
// 64 bytes at once through 256 entries: two look-ups of 128, chosen by the highest bit.
struct Table {
  __m512i part[4];
};
INLINE Table own_entries(const uint8_t* table) {
  return {_mm512_loadu_si512(table), _mm512_loadu_si512(table + 64), _mm512_loadu_si512(table + 128),
          _mm512_loadu_si512(table + 192)};
}
INLINE __m512i look_up(__m512i index, const Table& table) {
  const __m512i low = _mm512_permutex2var_epi8(table.part[0], index, table.part[1]);
  const __m512i high = _mm512_permutex2var_epi8(table.part[2], index, table.part[3]);
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high);
}
// Rounded to nearest, ties to even; the packing that follows cuts to 0 and 255. What no int32 holds would become the most
// negative one, so that unless it is known that there is none (`fits`) all is cut to 255 before. What is no number stays
// none, since min gives its second operand then, and becomes 0.
template <bool fits>
INLINE __m512i whole(F v) { return _mm512_cvtps_epi32(fits ? v : _mm512_min_ps(_mm512_set1_ps(255), v)); }
// What a table has for 64 whole numbers of 16 bits.
INLINE __m512i entries_of(__m512i low, __m512i high, bool goes_on, const Table& table) {
  const __m512i own = _mm512_set1_epi16(goes_on ? kOwnEntries - 1 : INT16_MAX);  // nothing is beyond the latter
  const __m512i beyond = _mm512_packus_epi16(_mm512_subs_epi16(low, own), _mm512_subs_epi16(high, own));
  return _mm512_adds_epu8(look_up(_mm512_packus_epi16(low, high), table), beyond);
}
// The bytes of them, cut to 0 and 255, or what a table has.
template <bool through_table>
INLINE __m512i bytes_of(__m512i low, __m512i high, const Gemm* g) {
  if constexpr (through_table) return entries_of(low, high, g->goes_on, own_entries(g->table));
  return _mm512_packus_epi16(low, high);
}
// Packing works within each quarter of a register: these put the parts into their order, and one or two rows where they
// belong.
template <int count>
INLINE void put_packed_rows(char* out, int64_t stride, __m512i bytes) {
  bytes = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(bytes));
  if (count == 2) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + stride), _mm512_extracti64x4_epi64(bytes, 1));
}
template <bool through_table>
INLINE __m512i bytes_of_group(const F* v, const Gemm* g) {
  constexpr bool fits = through_table;
  const __m512i low = _mm512_packs_epi32(whole<fits>(v[0]), whole<fits>(v[1]));
  const __m512i high = _mm512_packs_epi32(whole<fits>(v[2]), whole<fits>(v[3]));
  const __m512i order = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
  return _mm512_shuffle_epi8(bytes_of<through_table>(low, high, g), order);
}
#define PUTS_ROWS_TOGETHER
template <int count, bool through_table>
INLINE void put_rows(char* out, int64_t stride, F (*v)[2], const Gemm* g) {
  constexpr bool fits = through_table;
  const F* other = v[count - 1];
  const __m512i first = _mm512_packs_epi32(whole<fits>(v[0][0]), whole<fits>(v[0][1]));
  const __m512i second = count == 2 ? _mm512_packs_epi32(whole<fits>(other[0]), whole<fits>(other[1])) : first;
  put_packed_rows<count>(out, stride, bytes_of<through_table>(first, second, g));
}
// Two sums' whole numbers of 16 bits, which stand in the lower halves of floats, as packing would order them.
alignas(64) constexpr int16_t kLowerHalves[32] = {0,  2,  4,  6,  32, 34, 36, 38, 8,  10, 12, 14, 40, 42, 44, 46,
                                                  16, 18, 20, 22, 48, 50, 52, 54, 24, 26, 28, 30, 56, 58, 60, 62};
// With few instructions, and with the table in registers as soon as the first rows have left some: reading it again for each
// row, the tile's end would delay what the next tile reads.
#define FINISHES_INDICES
template <int R, bool floats>
INLINE void finish_indices(const Gemm& g, I (*sums)[2], int r, int c0) {
  constexpr int kKeptFrom = 4;  // rows
  __m512i v[R][2];
#pragma GCC unroll 2
  for (int j = 0; j < 2; ++j) {
    F scale = load(g.column_scale + c0 + j * W), shift = load(g.column_shift + c0 + j * W);
    HIDE(scale);
    HIDE(shift);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) v[i][j] = __m512i(fma(floats ? F(sums[i][j]) : to_float(sums[i][j]), scale, shift));
  }
  const bool goes_on = g.goes_on;
  const __m512i lower = _mm512_load_si512(kLowerHalves);
  Table table = own_entries(g.table);
  char* out = static_cast<char*>(g.out) + r * g.out_stride + c0;
#pragma GCC unroll 16
  for (int i = 0; i + 2 <= R; i += 2, out += 2 * g.out_stride) {
    if (i == kKeptFrom) {
      table = own_entries(g.table);
#pragma GCC unroll 4
      for (__m512i& part : table.part) HIDE(part);
    }
    const __m512i first = _mm512_permutex2var_epi16(v[i][0], lower, v[i][1]);
    const __m512i second = _mm512_permutex2var_epi16(v[i + 1][0], lower, v[i + 1][1]);
    put_packed_rows<2>(out, g.out_stride, entries_of(first, second, goes_on, table));
  }
  if constexpr (R % 2) {
    const __m512i only = _mm512_permutex2var_epi16(v[R - 1][0], lower, v[R - 1][1]);
    put_packed_rows<1>(out, 0, entries_of(only, only, goes_on, table));
  }
}
INLINE void put_row(char* out, F v0, F v1) {
  F v[1][2] = {{v0, v1}};
  put_rows<1, false>(out, 0, v, nullptr);
}
INLINE void put_group(char* out, const F* v) { _mm512_storeu_si512(out, bytes_of_group<false>(v, nullptr)); }
INLINE void put_group_table(char* out, const F* v, const Gemm* g) { _mm512_storeu_si512(out, bytes_of_group<true>(v, g)); }
#endif

}  // namespace
}  // namespace allmlp

#include "kernels.inc"
