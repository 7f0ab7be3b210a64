#include "resize.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace allmlp {
namespace {

constexpr int kBits = 32 - 8 - 2;  // of the weights' fraction: 8 bits of pixel, 2 of overshoot
constexpr int kMostPixels = 1 << 16;

// For outputs first .. first + count of `size`: which inputs each takes and with which weights, in 1 / 2^22.
struct Weights {
  std::vector<int> begin, length, weights;
  int most = 0;  // weights per output

  Weights(int inputs, int size, int first, int count, Filter filter) {
    begin.resize(count), length.resize(count);
    if (size == inputs) {  // a side that stays as it is: Pillow leaves out its pass
      most = 1;
      for (int i = 0; i < count; ++i) begin[i] = first + i, length[i] = 1;
      weights.assign(count, 1 << kBits);
      return;
    }
    const double scale = double(inputs) / size, wide = std::max(scale, 1.0);
    const double support = (filter == Filter::bicubic ? 2.0 : 1.0) * wide;
    most = int(std::ceil(support)) * 2 + 1;
    weights.resize(size_t(count) * most);
    std::vector<double> exact(most);
    for (int i = 0; i < count; ++i) {
      const double centre = (first + i + 0.5) * scale;
      const int from = std::max(0, int(centre - support + 0.5)), to = std::min(inputs, int(centre + support + 0.5));
      double sum = 0;
      for (int x = from; x < to; ++x) sum += exact[x - from] = value(filter, (x - centre + 0.5) / wide);
      begin[i] = from, length[i] = to - from;
      for (int x = 0; x < to - from; ++x) {
        const double weight = (sum != 0 ? exact[x] / sum : exact[x]) * (1 << kBits);
        weights[size_t(i) * most + x] = int(weight < 0 ? weight - 0.5 : weight + 0.5);
      }
    }
  }

  int end() const { return begin.back() + length.back(); }  // of the inputs that are needed

  static double value(Filter filter, double x) {
    x = std::fabs(x);
    if (filter == Filter::bilinear) return x < 1 ? 1 - x : 0;
    constexpr double a = -0.5;
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
  }
};

uint8_t rounded(int sum) { return uint8_t(std::clamp(sum >> kBits, 0, 255)); }

// The input that each of the outputs first .. first + count of `size` takes; stepping on, as Pillow does, since a product
// is rounded otherwise.
std::vector<int> nearest(int inputs, int size, int first, int count) {
  const double step = double(inputs) / size;
  std::vector<int> found(count);
  double at = step * 0.5;
  for (int i = 0; i < first + count; ++i, at += step)
    if (i >= first) found[i - first] = std::min(inputs - 1, int(at));
  return found;
}

// One weighted sum of `count` pixels that lie `step` bytes apart, for each of `values` neighbouring bytes.
void weigh(const uint8_t* from, int count, int64_t step, const int* weights, int values, uint8_t* out) {
  for (int v = 0; v < values; ++v) {
    int sum = 1 << (kBits - 1);
    for (int i = 0; i < count; ++i) sum += from[i * step + v] * weights[i];
    out[v] = rounded(sum);
  }
}

// `rows` lines of bytes, `line` apart, in which pixel 0 is input number `first`, to as many lines of what `across` says.
void shrink_lines(const uint8_t* from, int64_t line, const Weights& across, int first, int rows, uint8_t* out) {
  for (int y = 0; y < rows; ++y, from += line)
    for (size_t x = 0; x < across.begin.size(); ++x, out += 3)
      weigh(from + int64_t(across.begin[x] - first) * 3, across.length[x], 3, &across.weights[x * across.most], 3, out);
}

// The same for columns: the lines of `columns` pixels, the first of which is input number `first`.
void shrink_rows(const uint8_t* from, int64_t line, const Weights& down, int first, int columns, uint8_t* out) {
  for (size_t y = 0; y < down.begin.size(); ++y, out += int64_t(columns) * 3)
    weigh(from + (down.begin[y] - first) * line, down.length[y], line, &down.weights[y * down.most], columns * 3, out);
}

}  // namespace

void resize(const uint8_t* image, int height, int width, const Crop& crop, Filter filter, uint8_t* out) {
  for (int side : {height, width, crop.rows, crop.columns})
    if (side < 1 || side > kMostPixels) throw std::invalid_argument("images have sides of 1 to 65536 pixels");
  if (crop.top < 0 || crop.left < 0 || crop.rows > crop.height - crop.top || crop.columns > crop.width - crop.left)
    throw std::invalid_argument("the part that is wanted is not inside the resized image");
  const int64_t line = int64_t(width) * 3, out_line = int64_t(crop.columns) * 3;
  if (filter == Filter::nearest) {
    const std::vector<int> rows = nearest(height, crop.height, crop.top, crop.rows);
    const std::vector<int> columns = nearest(width, crop.width, crop.left, crop.columns);
    for (int y = 0; y < crop.rows; ++y)
      for (int x = 0; x < crop.columns; ++x)
        std::copy_n(image + rows[y] * line + int64_t(columns[x]) * 3, 3, out + y * out_line + int64_t(x) * 3);
    return;
  }
  const Weights across(width, crop.width, crop.left, crop.columns, filter);
  const Weights down(height, crop.height, crop.top, crop.rows, filter);
  // Pillow's own choice, by what is faster; the first pass computes only what the second will ask for.
  if (height > crop.height && height - crop.height > 2 * (width - crop.width)) {
    const int first = across.begin.front(), columns = across.end() - first;
    std::vector<uint8_t> low(int64_t(crop.rows) * columns * 3);
    shrink_rows(image + int64_t(first) * 3, line, down, 0, columns, low.data());
    shrink_lines(low.data(), int64_t(columns) * 3, across, first, crop.rows, out);
  } else {
    const int first = down.begin.front(), rows = down.end() - first;
    std::vector<uint8_t> narrow(int64_t(rows) * out_line);
    shrink_lines(image + first * line, line, across, 0, rows, narrow.data());
    shrink_rows(narrow.data(), out_line, down, first, crop.columns, out);
  }
}

}  // namespace allmlp
