// A text is a polynomial over bits, its CRC-32 the rest of its division by P = x^32 + x^26 + … + 1. The first bit of all
// has the highest power, and in a byte it is the lowest one: words here are "reversed", bit 0 is that of x^31.
// The text counts as if it began with 32 more ones on its first bits, and at the end all bits of the rest are turned over.
//
// With a carry-less multiplication: Intel's white paper "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
// Instruction" (2009), with constants that are computed here and without its last step, for which the table will do.
#include "crc.h"

#include <array>
#include <cstring>

#include "cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace allmlp {
namespace {

constexpr uint32_t kPolynomial = 0xedb88320;  // P without x^32

constexpr uint32_t times_x(uint32_t a) { return a & 1 ? a >> 1 ^ kPolynomial : a >> 1; }

constexpr uint32_t product(uint32_t a, uint32_t b) {  // modulo P
  uint32_t result = 0;
  for (; a; a <<= 1, b = times_x(b))
    if (a & 0x80000000) result ^= b;
  return result;
}

// x^(2^n)
constexpr std::array<uint32_t, 64> make_squares() {
  std::array<uint32_t, 64> squares{0x40000000};
  for (int n = 1; n < 64; ++n) squares[n] = product(squares[n - 1], squares[n - 1]);
  return squares;
}
constexpr auto kSquares = make_squares();

constexpr uint32_t power_of_x(uint64_t exponent) {
  uint32_t result = 0x80000000;
  for (int n = 0; exponent; exponent >>= 1, ++n)
    if (exponent & 1) result = product(result, kSquares[n]);
  return result;
}

// [n][byte]: what a byte makes of the rest when n more bytes of zeros follow it. Eight of them at a time.
constexpr std::array<std::array<uint32_t, 256>, 8> make_table() {
  std::array<std::array<uint32_t, 256>, 8> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t rest = byte;
    for (auto& row : table) {
      for (int bit = 0; bit < 8; ++bit) rest = times_x(rest);
      row[byte] = rest;
    }
  }
  return table;
}
constexpr auto kTable = make_table();

uint32_t by_table(uint32_t rest, const unsigned char* at, int64_t bytes) {
  for (; bytes >= 8; at += 8, bytes -= 8) {
    uint32_t low, high;
    std::memcpy(&low, at, 4);
    std::memcpy(&high, at + 4, 4);
    low ^= rest;
    rest = kTable[7][low & 255] ^ kTable[6][low >> 8 & 255] ^ kTable[5][low >> 16 & 255] ^ kTable[4][low >> 24] ^
           kTable[3][high & 255] ^ kTable[2][high >> 8 & 255] ^ kTable[1][high >> 16 & 255] ^ kTable[0][high >> 24];
  }
  for (; bytes > 0; ++at, --bytes) rest = rest >> 8 ^ kTable[0][(rest ^ *at) & 255];
  return rest;
}

#if defined(__x86_64__)

// What moves 64 bits `distance` bits up: x^distance mod P in 33 bits, since a product of reversed words is one bit short.
constexpr long long fold(int distance) { return static_cast<long long>(uint64_t{power_of_x(distance)} << 1); }

__attribute__((target("pclmul,sse2"))) inline __m128i folded(__m128i value, __m128i by, __m128i next) {
  return _mm_xor_si128(next, _mm_xor_si128(_mm_clmulepi64_si128(value, by, 0x00), _mm_clmulepi64_si128(value, by, 0x11)));
}

// Four blocks of 128 bits side by side, each brought 512 bits further and added to what stands there; then one by one.
// They begin as the 64 bytes of `first`; `at` is what follows.
__attribute__((target("pclmul,sse2"))) uint32_t by_carryless_product(const unsigned char* first, const unsigned char* at,
                                                                     int64_t bytes) {
  const auto load = [](const unsigned char* p) __attribute__((target("pclmul,sse2"))) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  };
  // The lower half of a block has the higher powers: 64 bits more.
  const __m128i far = _mm_set_epi64x(fold(512 - 32), fold(512 + 32));
  const __m128i near = _mm_set_epi64x(fold(128 - 32), fold(128 + 32));
  __m128i a = load(first), b = load(first + 16), c = load(first + 32), d = load(first + 48);
  for (; bytes >= 64; at += 64, bytes -= 64) {
    a = folded(a, far, load(at)), b = folded(b, far, load(at + 16));
    c = folded(c, far, load(at + 32)), d = folded(d, far, load(at + 48));
  }
  a = folded(folded(folded(a, near, b), near, c), near, d);
  for (; bytes >= 16; at += 16, bytes -= 16) a = folded(a, near, load(at));
  unsigned char last[16];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(last), a);
  return by_table(by_table(0, last, 16), at, bytes);
}

#define WIDE __attribute__((target("avx512f,vpclmulqdq")))

WIDE inline __m512i folded(__m512i value, __m512i by, __m512i next) {
  const __m512i low = _mm512_clmulepi64_epi128(value, by, 0x00), high = _mm512_clmulepi64_epi128(value, by, 0x11);
  return _mm512_ternarylogic_epi64(low, high, next, 0x96);  // the sum of three
}

// The same with blocks of 512 bits, of which 64 bytes are left in the end. At least 256 bytes.
WIDE uint32_t by_wide_product(const unsigned char* at, int64_t bytes) {
  const auto load = [](const unsigned char* p) WIDE { return _mm512_loadu_si512(p); };
  const auto both = [](int distance) WIDE {
    const long long low = fold(distance + 32), high = fold(distance - 32);
    return _mm512_set_epi64(high, low, high, low, high, low, high, low);
  };
  const __m512i far = both(2048), near = both(512);
  __m512i a = load(at), b = load(at + 64), c = load(at + 128), d = load(at + 192);
  for (at += 256, bytes -= 256; bytes >= 256; at += 256, bytes -= 256) {
    a = folded(a, far, load(at)), b = folded(b, far, load(at + 64));
    c = folded(c, far, load(at + 128)), d = folded(d, far, load(at + 192));
  }
  unsigned char last[64];
  _mm512_storeu_si512(last, folded(folded(folded(a, near, b), near, c), near, d));
  return by_carryless_product(last, at, bytes);
}

#elif defined(__aarch64__)

__attribute__((target("+crc"))) uint32_t by_instruction(const unsigned char* at, int64_t bytes) {
  uint32_t rest = 0;
  for (; bytes >= 8; at += 8, bytes -= 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    rest = __builtin_aarch64_crc32x(rest, word);
  }
  return by_table(rest, at, bytes);
}

#endif

uint32_t rest_of(const unsigned char* at, int64_t bytes) {
#if defined(__x86_64__)
  if (bytes >= 256 && (cpu_features() & kWideCarrylessProduct)) return by_wide_product(at, bytes);
  if (bytes >= 64 && (cpu_features() & kCarrylessProduct)) return by_carryless_product(at, at + 64, bytes - 64);
#elif defined(__aarch64__)
  if (cpu_features() & kArmCrc) return by_instruction(at, bytes);
#endif
  return by_table(0, at, bytes);
}

}  // namespace

uint32_t crc32_part(const void* data, uint64_t bytes, uint64_t behind) {
  return product(rest_of(static_cast<const unsigned char*>(data), int64_t(bytes)), power_of_x(8 * behind));
}

uint32_t crc32_of(uint32_t parts, uint64_t bytes) { return ~(parts ^ product(0xffffffff, power_of_x(8 * bytes))); }

}  // namespace allmlp
