// Where a model is read from: a file, or bytes in memory. Nothing outside the source is ever touched.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>

namespace allmlp {

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
    if (bytes) copy(offset, to, bytes);
  }

 protected:
  virtual void copy(uint64_t offset, void* to, uint64_t bytes) = 0;
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
  explicit FileSource(const std::string& path) : file_(std::fopen(path.c_str(), "rb")) {
    if (!file_) throw BadModel("cannot be opened");
    long end = -1;
    if (std::fseek(file_, 0, SEEK_END) == 0) end = std::ftell(file_);
    if (end < 0) {
      std::fclose(file_);
      throw BadModel("cannot be read");
    }
    size_ = static_cast<uint64_t>(end);
  }
  ~FileSource() override { std::fclose(file_); }
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;
  uint64_t size() const override { return size_; }

 private:
  void copy(uint64_t offset, void* to, uint64_t bytes) override {
    if (std::fseek(file_, static_cast<long>(offset), SEEK_SET) != 0 || std::fread(to, 1, bytes, file_) != bytes)
      throw BadModel("cannot be read, or was changed while being read");
  }
  std::FILE* file_;
  uint64_t size_ = 0;
};

}  // namespace allmlp
