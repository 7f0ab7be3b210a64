// The tanh form of GELU and its derivative over whole tensors, for training in PyTorch; no network of ours uses it.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace allmlp {

// A row of their table. Numbers are float, or the upper halves of floats for bf16; results may overwrite arguments.
struct TanhGelu {
  const char* level;
  Precision precision;
  uint32_t features;  // of the processor, see cpu.h
  void (*value)(const void* x, void* y, int64_t count);
  void (*gradient)(const void* x, const void* of_y, void* of_x, int64_t count);
};

}  // namespace allmlp
