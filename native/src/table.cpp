#include "table.h"

#include <stdexcept>

#include "cpu.h"

namespace allmlp {
namespace {

const Kernels& find(const std::string& level, Precision precision) {
  for (const Kernels* kernels : all_kernels())
    if (kernels->precision == precision && level == kernels->level) return *kernels;
  throw std::invalid_argument("no level '" + level + "'");  // cannot happen: each has every precision
}

}  // namespace

#define EACH_PRECISION(level) extern const Kernels level##_fp32, level##_bf16, level##_int8;
#if defined(__x86_64__)
EACH_PRECISION(avx512)
EACH_PRECISION(avx2)
#elif defined(__aarch64__)
EACH_PRECISION(neon_i8mm)
EACH_PRECISION(neon)
#endif
EACH_PRECISION(portable)
EACH_PRECISION(scalar)
#undef EACH_PRECISION

const std::vector<const Kernels*>& all_kernels() {
  static const auto& table = *new std::vector<const Kernels*>{  // never destroyed: a thread may open models to the end
#if defined(__x86_64__)
      &avx512_fp32,   &avx512_bf16,   &avx512_int8,    //
      &avx2_fp32,     &avx2_bf16,     &avx2_int8,      //
#elif defined(__aarch64__)
      &neon_i8mm_fp32, &neon_i8mm_bf16, &neon_i8mm_int8,  //
      &neon_fp32,     &neon_bf16,     &neon_int8,         //
#endif
      &portable_fp32, &portable_bf16, &portable_int8,  //
      &scalar_fp32,   &scalar_bf16,   &scalar_int8,
  };
  return table;
}

Precision precision_of(const std::string& name) {
  for (Precision precision : {Precision::fp32, Precision::bf16, Precision::int8})
    if (name == name_of(precision)) return precision;
  throw std::invalid_argument("no precision '" + name + "'; accepted: fp32, bf16, int8");
}

bool runs_here(const Kernels& kernels) { return (kernels.features & ~cpu_features()) == 0; }

const char* best_level(const std::vector<Precision>& precisions) {
  for (const Kernels* first : all_kernels()) {
    bool all = true;
    for (Precision precision : precisions) all = all && runs_here(find(first->level, precision));
    if (all) return first->level;
  }
  return "scalar";  // needs nothing
}

const Kernels& find_kernels(const std::string& level, Precision precision) {
  std::string known;
  for (const Kernels* kernels : all_kernels()) {
    if (kernels->precision != precision) continue;
    if (level == "auto" ? runs_here(*kernels) : level == kernels->level) {
      if (!runs_here(*kernels))
        throw std::invalid_argument("level '" + level + "' with " + name_of(precision) +
                                    " needs instructions that this processor, or its operating system, doesn't have");
      return *kernels;
    }
    known += std::string(", ") + kernels->level;
  }
  throw std::invalid_argument("no level '" + level + "'; accepted: auto" + known);
}

}  // namespace allmlp
