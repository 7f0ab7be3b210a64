// What the vector kernels share before they know their instruction set. PRECISION is 0 fp32, 1 bf16, 2 int8.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cpu.h"
#include "element.h"
#include "gelu.h"
#include "kernels.h"

namespace allmlp {
namespace {

constexpr Precision precision = static_cast<Precision>(PRECISION);

using Number = std::conditional_t<precision == Precision::int8, int32_t, float>;  // of an accumulator

}  // namespace
}  // namespace allmlp
