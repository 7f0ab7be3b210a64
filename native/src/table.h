// The table of kernels: dispatch, tests and benchmarks read it, and nothing else decides what runs.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace allmlp {

// All kernels that were compiled, the best first, those too that this processor can't run.
const std::vector<const Kernels*>& all_kernels();

inline const char* name_of(Precision precision) {
  return precision == Precision::fp32 ? "fp32" : precision == Precision::bf16 ? "bf16" : "int8";
}

// Throws std::invalid_argument, in one line.
Precision precision_of(const std::string& name);

bool runs_here(const Kernels& kernels);

// The best level at which all these precisions run here.
const char* best_level(const std::vector<Precision>& precisions);

// The kernels of `level`, or the best ones that run here for "auto". Throws std::invalid_argument, in one line.
const Kernels& find_kernels(const std::string& level, Precision precision);

}  // namespace allmlp
