#include "pack.h"

#include <algorithm>
#include <exception>
#include <functional>
#include <vector>

#include "element.h"
#include "threads.h"

namespace allmlp {
namespace {

constexpr int64_t kReadBytes = 256 << 10;  // at once: they stay in L2 until they are packed
constexpr int64_t kAlone = 256 << 10;      // bytes that are not worth waking threads for
constexpr int kLane = 4;                   // bytes of a group, whatever its numbers are

// Numbers [rows][count] as the kernels store them, rows padded with zeros to whole groups.
template <class Stored, class Kept, class Convert>
void converted(const char* from, int rows, int64_t count, int64_t stride, char* to, Convert convert) {
  for (int r = 0; r < rows; ++r, from += count * int64_t(sizeof(Stored)), to += stride) {
    for (int64_t i = 0; i < count; ++i) {
      Stored number;
      std::memcpy(&number, from + i * int64_t(sizeof number), sizeof number);
      const Kept kept = convert(number);
      std::memcpy(to + i * int64_t(sizeof kept), &kept, sizeof kept);
    }
    std::memset(to + count * int64_t(sizeof(Kept)), 0, stride - count * int64_t(sizeof(Kept)));
  }
}

void converted(Element element, const char* from, int rows, int64_t count, int64_t stride, char* to) {
  const auto same = [](auto number) { return number; };
  switch (element) {
    case Element::f32: return converted<uint32_t, uint32_t>(from, rows, count, stride, to, same);
    case Element::bf16: return converted<uint16_t, uint16_t>(from, rows, count, stride, to, same);
    case Element::i8: return converted<int8_t, int8_t>(from, rows, count, stride, to, same);
    case Element::i16: return converted<int8_t, int16_t>(from, rows, count, stride, to, same);
    case Element::f32_of_bf16: return converted<uint16_t, float>(from, rows, count, stride, to, from_bf16);
  }
}

// Lanes [rows][lanes], `stride` bytes from row to row, to [lanes][columns]: the length of a cache line at a time.
void transposed(const char* from, int64_t stride, int rows, int64_t lanes, char* to, int columns) {
  constexpr int64_t kTogether = 16;
  for (int64_t first = 0; first < lanes; first += kTogether)
    for (int r = 0; r < rows; ++r)
      for (int64_t i = first, end = std::min(lanes, first + kTogether); i < end; ++i)
        std::memcpy(to + (i * columns + r) * kLane, from + r * stride + i * kLane, kLane);
}

class Packer {
 public:
  Packer(Source& source, uint64_t offset, const Packing& packing, char* to, Sums* sums)
      : source_(source), offset_(offset), p_(packing), to_(to), sums_(sums) {
    const int64_t most = kReadBytes / (int64_t(p_.columns) * p_.stored) / p_.group * p_.group;
    strip_ = std::min<int64_t>(p_.inputs, std::max<int64_t>(most, p_.group));
    const int64_t number = kLane / p_.group;
    stride_ = (strip_ + p_.group - 1) / p_.group * kLane;
    as_stored_ = number == p_.stored;
    read_.resize(p_.columns * strip_ * p_.stored);
    if (!as_stored_ || strip_ % p_.group || p_.inputs % p_.group) kept_.resize(p_.columns * stride_);
  }

  // Outputs `first` to `last`, at most as many as a panel has columns.
  void pack(int first, int last) {
    for (int64_t k = 0; k < p_.inputs; k += strip_) {
      const int64_t count = std::min<int64_t>(strip_, p_.inputs - k);
      read(first, last - first, k, count);
      place(first, last - first, k, count);
    }
  }

 private:
  void read(int first, int rows, int64_t k, int64_t count) {
    const uint64_t row_bytes = uint64_t(p_.inputs) * p_.stored, bytes = uint64_t(count) * p_.stored;
    const uint64_t at = offset_ + first * row_bytes + uint64_t(k) * p_.stored;
    if (bytes == row_bytes) return source_.read(at, read_.data(), rows * row_bytes);
    for (int r = 0; r < rows; ++r) source_.read(at + r * row_bytes, read_.data() + r * bytes, bytes);
  }

  void place(int first, int rows, int64_t k, int64_t count) {
    if (p_.stored == 1)
      for (int r = 0; r < rows; ++r) {
        const int8_t* row = reinterpret_cast<const int8_t*>(read_.data()) + r * count;
        int32_t sum = 0, magnitude = 0;  // of at most 2^20 bytes
        for (int64_t i = 0; i < count; ++i) sum += row[i], magnitude += row[i] < 0 ? -row[i] : row[i];
        sums_[first + r].weights += sum, sums_[first + r].magnitudes += magnitude;
      }
    const char* from = read_.data();
    const int64_t lanes = (count + p_.group - 1) / p_.group;
    int64_t stride = count * p_.stored;
    if (!as_stored_ || count % p_.group) {
      converted(p_.element, from, rows, count, stride = lanes * kLane, kept_.data());
      from = kept_.data();
    }
    if (!p_.as_rows) {
      char* panel = to_ + first / p_.columns * p_.stride + first % p_.columns * kLane;
      return transposed(from, stride, rows, lanes, panel + k / p_.group * p_.columns * kLane, p_.columns);
    }
    for (int r = 0; r < rows; ++r)
      std::memcpy(to_ + (first + r) * p_.stride + k / p_.group * kLane, from + r * stride, lanes * kLane);
  }

  Source& source_;
  uint64_t offset_;
  const Packing& p_;
  char* to_;
  Sums* sums_;
  int64_t strip_, stride_;  // numbers of a row that are read at once, and the bytes that they take here
  bool as_stored_;
  std::vector<char> read_, kept_;
};

}  // namespace

void pack(Source& source, uint64_t offset, const Packing& packing, char* to, Sums* sums, int threads) {
  const int64_t pieces = (int64_t(packing.outputs) + packing.columns - 1) / packing.columns;
  if (int64_t(packing.outputs) * packing.inputs * packing.stored < kAlone) threads = 1;
  threads = int(std::min<int64_t>(threads, pieces));
  std::vector<std::exception_ptr> failures(threads);
  // Each thread takes pieces that lie together, since two that touch the same huge page first wait for each other.
  const auto work = [&](int thread) {
    try {
      Packer packer(source, offset, packing, to, sums);
      for (int64_t i = pieces * thread / threads; i < pieces * (thread + 1) / threads; ++i)
        packer.pack(int(i * packing.columns), int(std::min<int64_t>((i + 1) * packing.columns, packing.outputs)));
    } catch (...) {
      failures[thread] = std::current_exception();
    }
  };
  run_on_threads(threads, std::cref(work));
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

}  // namespace allmlp
