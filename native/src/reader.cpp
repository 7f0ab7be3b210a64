#include "reader.h"

#include <algorithm>
#include <cmath>

#include "indices.h"
#include "pack.h"

namespace allmlp {
namespace {

constexpr uint64_t kMaxAbout = 64 << 20;
constexpr uint64_t kMaxRest = 4 << 20;        // bytes between tensors
constexpr int64_t kMaxInt8Sum = 32768;       // 255 * 128 * this, and as much again from the zero point, fit int32
constexpr const char* kTooLarge = "sums of an int8 layer that could become too large";
constexpr double kMostIndex = 1 << 22;       // so that floats that have kWholeNumbers as a part hold it
constexpr int64_t kMaxActivations = 1 << 26;  // numbers in one layer's activations of one image

void check(bool good, const char* what) {
  if (!good) throw BadModel(std::string("damaged: ") + what);
}

// The checksum is compared last: until then a size too large may be either.
void limit(bool good, const char* what) {
  if (!good) throw BadModel(std::string("beyond the engine's limits, or damaged: ") + what);
}

void check_size(uint32_t size, uint32_t most, const char* what) {
  check(size >= 1, what);
  limit(size <= most, what);
}

// Of numbers, their largest magnitude; infinite if one is none.
double largest(const Buffer& of) {
  double most = 0;
  for (int64_t i = 0; i < of.size() / 4; ++i)
    most = std::isnan(of.floats()[i]) ? INFINITY : std::max(most, double(std::fabs(of.floats()[i])));
  return most;
}

// That no sum of an int8 layer, scaled by `factor` too, can reach `most`.
void limit_sums(const Linear& layer, int inputs, double factor, double most) {
  limit(255.0 * 128 * inputs * largest(layer.scale) * factor + largest(layer.shift) < most, kTooLarge);
}

void check_header(const Header& h, uint64_t size) {
  check(std::memcmp(h.magic, kMagic, sizeof kMagic) == 0, "not a model of this engine");
  if (h.version != kVersion)
    throw BadModel("is of version " + std::to_string(h.version) + "; this engine reads version " +
                   std::to_string(kVersion));
  check(h.precision <= 2, "unknown precision");
  for (uint32_t side : {h.image_height, h.image_width, h.patch_height, h.patch_width})
    check_size(side, 1 << 14, "image or patch size");
  check(h.image_height % h.patch_height == 0 && h.image_width % h.patch_width == 0, "patches don't divide the image");
  check_size(h.width, 1 << 16, "width");
  check_size(h.depth, 1024, "depth");
  check_size(h.classes, 1 << 20, "number of classes");
  check(h.tensors <= 64 + 32 * h.depth, "number of tensors");
  check(h.norm <= 1, "norm");
  const int64_t tokens = h.tokens();
  limit(tokens <= 1 << 16 && tokens * h.width <= kMaxActivations, "more activations than any known network");
  limit(int64_t(h.patch_height) * h.patch_width * 3 <= (h.precision == 2 ? kMaxInt8Sum : 1 << 20), "patch size");
  limit(h.about_bytes <= kMaxAbout, "length of the description");
  check(h.about_offset <= size && h.about_bytes <= size - h.about_offset, "description");
}

void check_block(const BlockHeader& b, const Header& h) {
  check(b.family <= 2, "unknown family");
  check(b.gelu <= 1 && b.norm1 <= 1 && b.norm2 <= 1, "activation or norm");
  const bool mixer = b.family == static_cast<uint32_t>(Family::mixer);
  const bool gated = b.family == static_cast<uint32_t>(Family::gmlp);
  check(b.token_precision <= 2 && b.channel_precision <= 2, "unknown precision");
  check(!gated || b.token_precision == b.channel_precision, "a gated block of two precisions");
  if (mixer) check_size(b.token_hidden, 1 << 20, "token hidden");
  check_size(b.channel_hidden, 1 << 20, "channel hidden");
  check(!gated || b.channel_hidden % 2 == 0, "an odd gate");
  for (uint32_t zero_point : b.zero_points) check(zero_point <= 255, "zero point");
  const int64_t tokens = h.tokens();
  limit(tokens * b.channel_hidden <= kMaxActivations && int64_t(b.token_hidden) * h.width <= kMaxActivations,
        "more activations than any known network");
  if (b.token_precision == 2)
    for (int64_t sum : {tokens, mixer ? int64_t(b.token_hidden) : 0}) limit(sum <= kMaxInt8Sum, "sums too long for int8");
  if (b.channel_precision == 2)
    for (uint32_t sum : {h.width, b.channel_hidden}) limit(sum <= kMaxInt8Sum, "sums too long for int8");
}

}  // namespace

Reader::Reader(Source& source, Arena& arena, int threads) : source_(source), arena_(arena), threads_(threads) {
  source.read(0, &header_, sizeof header_);
  check_header(header_, source.size());
  blocks_.resize(header_.depth);
  source.read(sizeof header_, blocks_.data(), blocks_.size() * sizeof(BlockHeader));
  for (const BlockHeader& block : blocks_) check_block(block, header_);
  entries_.resize(header_.tensors);
  source.read(sizeof header_ + blocks_.size() * sizeof(BlockHeader), entries_.data(),
              entries_.size() * sizeof(TensorEntry));
  about_.resize(header_.about_bytes);
  source.read(header_.about_offset, about_.data(), about_.size());
}

uint64_t Reader::tensor_bytes() const {
  uint64_t all = 0;
  for (const TensorEntry& entry : entries_) all += std::min(entry.bytes, source_.size() - all);
  return all;
}

TensorEntry Reader::next(uint64_t bytes) {
  check(position_ < entries_.size(), "tensors are missing");
  const TensorEntry entry = entries_[position_++];
  if (entry.bytes != bytes)
    throw BadModel("damaged: tensor " + std::to_string(position_ - 1) + " has " + std::to_string(entry.bytes) +
                   " bytes, not " + std::to_string(bytes));
  if (entry.offset > source_.size() || bytes > source_.size() - entry.offset) throw BadModel("truncated");
  // Else a small file could say the same bytes many times, and take any amount of memory.
  check((read_ += bytes) <= source_.size(), "tensors overlap");
  return entry;
}

Buffer Reader::floats(int64_t count, int64_t padded, int64_t rows) {
  const TensorEntry entry = next(uint64_t(count) * rows * 4);
  Buffer result = arena_.take(padded * rows * 4);
  for (int64_t row = 0; row < rows; ++row)
    source_.read(entry.offset + row * count * 4, result.floats() + row * padded, count * 4);
  return result;
}

Buffer Reader::float_panels(int64_t count, int64_t columns, int64_t rows) {
  const TensorEntry entry = next(uint64_t(count) * rows * 4);
  Buffer result = arena_.take(round_up(count, columns) * rows * 4);
  std::vector<float> row(count);
  for (int64_t r = 0; r < rows; ++r) {
    source_.read(entry.offset + r * count * 4, row.data(), count * 4);
    for (int64_t c = 0; c < count; ++c) result.floats()[(c / columns * rows + r) * columns + c % columns] = row[c];
  }
  return result;
}

Buffer Reader::table(const Linear& layer, int inputs, const Buffer& columns) {
  limit_sums(layer, inputs, largest(columns), 2147483648.0);
  return entries();
}

Buffer Reader::table_of_indices(Linear& layer, int outputs, int inputs) {
  limit_sums(layer, inputs, 1, kMostIndex);
  for (int o = 0; o < outputs; ++o) check(layer.scale.floats()[o] >= 0, "a negative scale of int8");
  std::vector<int64_t> largest(magnitudes_);
  for (int64_t& each : largest) {
    limit((zero_point_ + 255) * each < INT32_MAX - kMostStart, kTooLarge);  // on the way
    each *= std::max(zero_point_, 255 - zero_point_);
  }
  layer.reach = to_indices(reinterpret_cast<int32_t*>(layer.start.bytes()), layer.scale.floats(), layer.shift.floats(),
                           largest.data(), outputs, layer.start.size() / 4);
  return entries();
}

Buffer Reader::entries() {
  const TensorEntry entry = next(kEntries);
  Buffer result = arena_.take(kEntries);
  source_.read(entry.offset, result.bytes(), entry.bytes);
  const uint8_t* entries = reinterpret_cast<const uint8_t*>(result.bytes());
  for (int i = kOwnEntries; i < kEntries; ++i)
    check(entries[i] == (goes_on(entries) ? std::min(255, entries[i - 1] + 1) : entries[i - 1]), "a table of int8");
  return result;
}

Linear Reader::rows(const Kernels& kernels, int outputs, int inputs, int zero_point, bool bias) {
  return linear(kernels, outputs, inputs, zero_point, true, bias);
}

Linear Reader::panels(const Kernels& kernels, int outputs, int inputs, int zero_point) {
  return linear(kernels, outputs, inputs, zero_point, false, true);
}

Linear Reader::linear(const Kernels& kernels, int outputs, int inputs, int zero_point, bool as_rows, bool bias) {
  // The head is fp32 in files of every precision.
  const Precision stored = kernels.precision;
  const int width = stored == Precision::fp32 ? 4 : stored == Precision::bf16 ? 2 : 1;
  const TensorEntry entry = next(uint64_t(outputs) * inputs * width);
  const Element element = as_rows ? kernels.row : kernels.panel;
  const int bytes = bytes_of(element), group = kernels.group, columns = kernels.columns;
  const int64_t padded = as_rows ? round_up(outputs, group) : round_up(outputs, columns);

  Linear linear;
  linear.groups = int(round_up(inputs, group) / group);
  linear.outputs = int(as_rows ? padded : padded / columns);
  linear.stride = as_rows ? row_stride(int64_t(linear.groups) * group * bytes)
                          : int64_t(linear.groups) * columns * group * bytes;
  linear.weights = arena_.take(linear.stride * linear.outputs);
  std::vector<Sums> sums(padded);
  pack(source_, entry.offset, {outputs, inputs, width, element, group, columns, as_rows, linear.stride},
       linear.weights.bytes(), sums.data(), threads_);
  if (stored == Precision::int8) {
    linear.start = arena_.take(padded * 4);
    for (int64_t o = 0; o < padded; ++o)
      reinterpret_cast<int32_t*>(linear.start.bytes())[o] = int32_t(-zero_point * sums[o].weights);
    zero_point_ = zero_point;
    magnitudes_.clear();
    for (const Sums& sum : sums) magnitudes_.push_back(sum.magnitudes);
    linear.scale = floats(outputs, padded);
    if (bias) linear.shift = floats(outputs, padded);
  } else if (bias) {
    linear.start = floats(outputs, padded);
  }
  return linear;
}

void Reader::finish() {
  check(position_ == entries_.size(), "tensors that belong to nothing");
  read_rest();
  if (source_.checksum() != kWhole)
    throw BadModel("damaged: what it holds does not have the checksum it was written with");
}

// What was not read: between the tensors, and the checksum behind the last one.
void Reader::read_rest() {
  std::vector<TensorEntry> taken = entries_;
  taken.push_back({0, sizeof header_ + blocks_.size() * sizeof(BlockHeader) + entries_.size() * sizeof(TensorEntry)});
  taken.push_back({header_.about_offset, header_.about_bytes});
  taken.push_back({source_.size(), 0});
  std::sort(taken.begin(), taken.end(), [](const auto& one, const auto& other) { return one.offset < other.offset; });
  std::vector<char> rest;
  uint64_t end = 0, all = 0;
  for (const TensorEntry& next : taken) {
    if (next.offset > end) {
      check((all += next.offset - end) <= kMaxRest, "bytes that belong to nothing");
      rest.resize(next.offset - end);
      source_.read(end, rest.data(), rest.size());
    }
    end = std::max(end, next.offset + next.bytes);
  }
}

}  // namespace allmlp
