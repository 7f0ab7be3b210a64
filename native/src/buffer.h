// Zeroed memory that begins on a cache line: by itself, or out of an arena.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace allmlp {

constexpr int64_t kCacheLine = 64;

inline int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// The stride of rows of `bytes` bytes: an odd number of cache lines, so that rows, which are read side by side, don't
// fall onto the same few places of the cache.
inline int64_t row_stride(int64_t bytes) { return (round_up(bytes, kCacheLine) / kCacheLine | 1) * kCacheLine; }

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t bytes) : bytes_(bytes), owned_(true) {
    if (bytes == 0) return;
    data_ = static_cast<char*>(std::aligned_alloc(kCacheLine, round_up(bytes, kCacheLine)));
    if (!data_) throw std::bad_alloc();
    std::memset(data_, 0, bytes);
  }
  Buffer(char* part_of_an_arena, int64_t bytes) : data_(part_of_an_arena), bytes_(bytes) {}
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(owned_, other.owned_);
    return *this;
  }
  ~Buffer() {
    if (owned_) std::free(data_);
  }

  char* bytes() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }
  int64_t size() const { return bytes_; }

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
  bool owned_ = false;
};

// Memory for all of a network's buffers, one behind the other, so that even small ones lie on huge pages: with small
// pages a layer of 1 MB is more of them than the processor remembers where they are. Pages that nothing was written to
// take no memory. Buffers must not outlive their arena.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
  // Addresses for what a file of so many bytes becomes, in one piece if it can be had: operands may be twice as wide
  // as in the file. `give_back` returns those that were not needed.
  void expect(uint64_t file_bytes) { map(2 * int64_t(file_bytes < kMost ? file_bytes : kMost) + kChunk); }
  void give_back() {
    if (chunks_.empty()) return;
    char* begin = at_ + (kHugePage - reinterpret_cast<uintptr_t>(at_) % kHugePage) % kHugePage;
    auto& [chunk, size] = chunks_.back();
    const int64_t used = begin - static_cast<char*>(chunk);
    if (used < size) munmap(begin, size - used), left_ = begin - at_, size = used;
  }

  Buffer take(int64_t bytes) {
    const int64_t whole = round_up(bytes, kCacheLine);
    if (whole > left_ && !map(whole)) throw std::bad_alloc();
    at_ += whole, left_ -= whole, taken_ += whole;
    return Buffer(at_ - whole, bytes);
  }
  ~Arena() {
    for (const auto& [chunk, size] : chunks_) munmap(chunk, size);
  }

 private:
  bool map(int64_t bytes) {
    const int64_t size = round_up(bytes > kChunk ? bytes : kChunk, kHugePage) + kHugePage;  // one to align
    void* chunk = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (chunk == MAP_FAILED) return false;
    chunks_.push_back({chunk, size});
    at_ = reinterpret_cast<char*>(round_up(reinterpret_cast<int64_t>(chunk), kHugePage));
    left_ = static_cast<char*>(chunk) + size - at_;
    madvise(at_, left_, MADV_HUGEPAGE);  // a wish; without it all is as right, less fast
    return true;
  }
  static constexpr int64_t kHugePage = 2 << 20, kChunk = 64 << 20;
  static constexpr uint64_t kMost = uint64_t(1) << 56;  // a file with holes may claim more; there are no such addresses
  std::vector<std::pair<void*, int64_t>> chunks_;
  char* at_ = nullptr;
  int64_t left_ = 0;
#else  // one by one, where the sanitizer sees the ends of each
  void expect(uint64_t) {}
  void give_back() {}
  Buffer take(int64_t bytes) {
    taken_ += bytes;
    return Buffer(bytes);
  }

 private:
#endif
  int64_t taken_ = 0;

 public:
  int64_t taken() const { return taken_; }
};

}  // namespace allmlp
