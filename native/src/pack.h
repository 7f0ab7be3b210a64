// Weights on their way from a file to where the kernels want them.
#pragma once

#include "kernels.h"
#include "source.h"

namespace allmlp {

struct Packing {
  int outputs, inputs;
  int stored;  // bytes of a number in the file
  Element element;
  int group, columns;  // of the kernels
  bool as_rows;        // else as panels
  int64_t stride;      // bytes from row to row, or from panel to panel
};

struct Sums {
  int64_t weights = 0, magnitudes = 0;
};

// Reads numbers [outputs][inputs], from `offset` of the source on, and packs them into `to`, which holds zeros. In int8
// sums[o] are those of output o's weights. `threads` of them share the work. Throws what reading throws.
void pack(Source& source, uint64_t offset, const Packing& packing, char* to, Sums* sums, int threads);

}  // namespace allmlp
