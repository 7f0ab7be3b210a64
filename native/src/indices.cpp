#include "indices.h"

#include <algorithm>
#include <cmath>

namespace allmlp {
namespace {

constexpr float kLeastScale = 1.f / (1 << 24);  // below it `start` would be too large, and no sum matters
constexpr int32_t kFloats = 1 << 23;            // from here to twice that, floats and their bits both go up by one

}  // namespace

Reach to_indices(int32_t* starts, float* scales, float* shifts, const int64_t* largest, int64_t outputs, int64_t padded) {
  bool floats = true, words = true;
  for (int64_t o = 0; o < padded; ++o) {
    const double scale = scales[o] = o < outputs ? std::max(scales[o], kLeastScale) : 0, shift = shifts[o];
    const int64_t most = o < outputs ? largest[o] : 0;
    // An even number, so that ties go where they go without it.
    const float whole = float(2 * std::nearbyint((shift - kWholeNumbers * scale) / 2) + kWholeNumbers);
    const double start = o < outputs ? std::nearbyint((shift + kWholeNumbers - whole) / scale) : kWholeNumbers;
    starts[o] += int32_t(start);
    shifts[o] = whole;
    floats = floats && start - double(most) >= kFloats && start + double(most) < 2 * kFloats;
    words = words && std::fabs(start * scale + whole - kWholeNumbers) + double(most) * scale < INT16_MAX;
  }
  if (!floats || !words) return words ? Reach::words : Reach::any;
  for (int64_t o = 0; o < padded; ++o) starts[o] += kFloatBits - kFloats;
  return Reach::floats;
}

}  // namespace allmlp
