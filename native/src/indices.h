// How the sums of a layer become indices of a table: with one rounding, so that few instructions are left to do it.
//
//   index = round((sum + start) * scale + whole)
//
// `start`, a whole number, and `whole`, an even one, make up the layer's shift to half a step of the sums: some 1/3,000 of
// an index in Mixer-S/16, 1/800 in a network of digits. (sum + start) is near 1.5 * 2^23. Where it stays between 2^23 and
// 2^24 for any operand, the sums begin with the bits of 2^23 as a float besides, and then are floats that need no
// conversion. quantize/arithmetic.py has the same.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace allmlp {

constexpr int32_t kMostStart = 1 << 25;

// Of a layer with `outputs` outputs, and zeros up to `padded`: to `starts`, where sums begin, what is told above is added;
// `scales` and `shifts` become what `Form::index` takes. No sum is larger than largest[o], before anything is added to
// it, and sum * scale + shift must stay below 2^22. What is added is below kMostStart, but for the bits of floats.
Reach to_indices(int32_t* starts, float* scales, float* shifts, const int64_t* largest, int64_t outputs, int64_t padded);

}  // namespace allmlp
