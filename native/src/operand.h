// One number of an operand, in whatever way the kernels store it: for packing weights and for tests.
#pragma once

#include <cmath>
#include <cstdlib>
#include <vector>

#include "element.h"
#include "kernels.h"

namespace allmlp {

inline void put(Element element, char* at, float value) {
  switch (element) {
    case Element::f32: std::memcpy(at, &value, 4); break;
    case Element::f32_of_bf16: {
      const float rounded = from_bf16(to_bf16(value));
      std::memcpy(at, &rounded, 4);
      break;
    }
    case Element::bf16: {
      const uint16_t bits = to_bf16(value);
      std::memcpy(at, &bits, 2);
      break;
    }
    case Element::i8: *at = static_cast<char>(static_cast<int>(value)); break;  // weights are signed, values unsigned
    case Element::i16: {
      const int16_t word = static_cast<int16_t>(value);
      std::memcpy(at, &word, 2);
    }
  }
}

// The number stored at `at`; a byte is unsigned.
inline float get(Element element, const char* at) {
  switch (element) {
    case Element::bf16: {
      uint16_t bits;
      std::memcpy(&bits, at, 2);
      return from_bf16(bits);
    }
    case Element::i8: return static_cast<uint8_t>(*at);
    case Element::i16: {
      int16_t word;
      std::memcpy(&word, at, 2);
      return word;
    }
    default: {
      float value;
      std::memcpy(&value, at, 4);
      return value;
    }
  }
}

// The largest sums that bytes times weights [inner][columns] can have, with where they start.
inline std::vector<int64_t> largest_sums(const float* weights, int64_t inner, int64_t columns, const int32_t* starts) {
  std::vector<int64_t> largest(columns);
  for (int64_t c = 0; c < columns; ++c) largest[c] = std::abs(int64_t(starts[c]));
  for (int64_t i = 0; i < inner * columns; ++i) largest[i % columns] += 255 * int64_t(std::fabs(weights[i]));
  return largest;
}

}  // namespace allmlp
