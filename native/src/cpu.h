// What this processor, and its operating system, can do.
#pragma once

#include <cstdint>

namespace allmlp {

enum Feature : uint32_t {
  kAvx2Fma = 1,      // AVX2 and FMA
  kAvx512 = 2,       // F, BW, DQ, VL
  kAvx512Bf16 = 4,   // BF16
  kAvx512Vnni = 8,   // VNNI and VBMI
  kArmDotProduct = 16,
  kArmI8mm = 32,
  kCarrylessProduct = 64,       // PCLMULQDQ
  kWideCarrylessProduct = 128,  // VPCLMULQDQ with AVX-512
  kArmCrc = 256,
};

// The features that are there: the instructions in the processor, and the registers saved by the operating system.
uint32_t cpu_features();

}  // namespace allmlp
