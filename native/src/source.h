// Where a model is read from: a file, or bytes in memory. Nothing outside the source is ever touched. What was read counts
// for its checksum, so that it is the bytes in use which are compared, and they are read once.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc.h"

namespace allmlp {

// What can be done about a file that is refused: module.cpp says it behind every BadModel of what is in one.
constexpr char kCopyAgain[] = "; export the network again, or get another copy of the file";

struct BadModel : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Source {
 public:
  virtual ~Source() = default;
  virtual uint64_t size() const = 0;

  // Copies `bytes` bytes from `offset` on. Throws BadModel where the source has not so many.
  void read(uint64_t offset, void* to, uint64_t bytes) {
    if (offset > size() || bytes > size() - offset)
      throw BadModel("truncated: " + std::to_string(bytes) + " bytes wanted at " + std::to_string(offset) + " of " +
                     std::to_string(size()));
    if (!bytes) return;
    copy(offset, to, bytes);
    parts_.fetch_xor(crc32_part(to, bytes, size() - offset - bytes), std::memory_order_relaxed);
  }

  // The CRC-32 of all `size` bytes, once each was read by a call of its own; those that were not count as zeros.
  uint32_t checksum() const { return crc32_of(parts_.load(std::memory_order_relaxed), size()); }

 protected:
  virtual void copy(uint64_t offset, void* to, uint64_t bytes) = 0;

 private:
  std::atomic<uint32_t> parts_{0};
};

class MemorySource final : public Source {
 public:
  MemorySource(const void* data, uint64_t size) : data_(static_cast<const char*>(data)), size_(size) {}
  uint64_t size() const override { return size_; }

 private:
  void copy(uint64_t offset, void* to, uint64_t bytes) override { std::memcpy(to, data_ + offset, bytes); }
  const char* data_;
  uint64_t size_;
};

class FileSource final : public Source {
 public:
  // O_NONBLOCK: a pipe without a writer would be waited for; it changes nothing about files.
  explicit FileSource(const std::string& path) : file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    struct stat about;
    const std::string give = "; give a file that `allmlp export --to native` wrote";
    if (file_ < 0) throw BadModel(std::string("cannot be opened: ") + std::strerror(errno) + give);
    if (fstat(file_, &about) != 0 || !S_ISREG(about.st_mode)) {
      const bool folder = S_ISDIR(about.st_mode);
      ::close(file_);
      throw BadModel((folder ? "a folder, no file" : "a pipe or a device, no file") + give +
                     (folder ? "; in an exported folder that is model.allmlp" : ""));
    }
    size_ = static_cast<uint64_t>(about.st_size);
  }
  ~FileSource() override { ::close(file_); }
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;
  uint64_t size() const override { return size_; }

 private:
  void copy(uint64_t offset, void* to, uint64_t bytes) override {
    for (char* at = static_cast<char*>(to); bytes > 0;) {
      const ssize_t got = pread(file_, at, bytes, static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) throw BadModel("cannot be read, or was changed while being read");
      at += got, offset += got, bytes -= got;
    }
  }
  int file_;
  uint64_t size_ = 0;
};

}  // namespace allmlp
