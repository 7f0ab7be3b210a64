// Pillow's antialiased resizing of 8-bit images, to the pixel: what training and evaluation use. That of version 13; up
// to 12 the passes came in one order only, and where 13 has the other a few pixels are one level off.
#pragma once

#include <cstdint>

namespace allmlp {

enum class Filter { nearest, bilinear, bicubic };

struct Crop {
  int height, width;            // of the image after resizing
  int top, left, rows, columns;  // the part of it that is wanted; only that is computed
};

// uint8 RGB [height][width][3] to [crop.rows][crop.columns][3]. Throws std::invalid_argument for sizes that don't fit.
void resize(const uint8_t* image, int height, int width, const Crop& crop, Filter filter, uint8_t* out);

}  // namespace allmlp
