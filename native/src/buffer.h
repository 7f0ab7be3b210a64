// Zeroed memory that begins on a cache line, or on a huge page where it is that large.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace allmlp {

constexpr int64_t kCacheLine = 64;

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t bytes) : bytes_(bytes) {
    constexpr int64_t huge = 2 << 20;
    const int64_t alignment = bytes >= huge ? huge : kCacheLine;
    const int64_t whole = (bytes + alignment - 1) / alignment * alignment;
    if (whole == 0) return;
    data_ = static_cast<char*>(std::aligned_alloc(alignment, whole));
    if (!data_) throw std::bad_alloc();
#if defined(__linux__)
    if (alignment == huge) madvise(data_, whole, MADV_HUGEPAGE);  // a wish; without it all is as right, less fast
#endif
    std::memset(data_, 0, whole);
  }
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer() { std::free(data_); }

  char* bytes() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }
  int64_t size() const { return bytes_; }

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
};

inline int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// The stride of rows of `bytes` bytes: an odd number of cache lines, so that rows, which are read side by side, don't
// fall onto the same few places of the cache.
inline int64_t row_stride(int64_t bytes) { return (round_up(bytes, kCacheLine) / kCacheLine | 1) * kCacheLine; }

}  // namespace allmlp
