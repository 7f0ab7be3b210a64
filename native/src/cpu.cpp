#include "cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>

namespace allmlp {

static uint32_t detect() {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  uint32_t features = c & (1u << 1) ? uint32_t{kCarrylessProduct} : 0;
  const bool fma = c & (1u << 12), osxsave = c & (1u << 27), avx = c & (1u << 28);
  if (!osxsave || !avx || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return features;
  const unsigned b7 = b, c7 = c;
  // Which registers the operating system saves when it switches tasks: without that, an instruction faults though the
  // processor has it. Bits 1, 2: SSE, AVX; 5, 6, 7: AVX-512's masks, upper halves and upper registers.
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 0x6) == 0x6 && fma && (b7 & (1u << 5))) features |= kAvx2Fma;
  constexpr unsigned f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
  if ((low & 0xe6) == 0xe6 && (b7 & f_dq_bw_vl) == f_dq_bw_vl) {
    features |= kAvx512;
    if ((features & kCarrylessProduct) && (c7 & (1u << 10))) features |= kWideCarrylessProduct;
    if ((c7 & (1u << 11)) && (c7 & (1u << 1))) features |= kAvx512Vnni;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 5))) features |= kAvx512Bf16;
  }
  return features;
}

uint32_t cpu_features() {
  static const uint32_t features = detect();
  return features;
}

}  // namespace allmlp

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

namespace allmlp {

// The operating system says what the processor has, since only it may ask. All of it works on the registers of NEON,
// which are saved with every task. I8MM comes with the dot product, and counts only with it.
uint32_t cpu_features() {
  const unsigned long has = getauxval(AT_HWCAP), has2 = getauxval(AT_HWCAP2);
  constexpr unsigned long crc32 = 1 << 7, asimddp = 1 << 20, i8mm = 1 << 13;  // HWCAP_…, HWCAP2_I8MM: not in all headers
  uint32_t features = has & crc32 ? uint32_t{kArmCrc} : 0;
  if (has & asimddp) features |= kArmDotProduct | (has2 & i8mm ? uint32_t{kArmI8mm} : 0);
  return features;
}

}  // namespace allmlp

#else

namespace allmlp {
uint32_t cpu_features() { return 0; }
}  // namespace allmlp

#endif
