// Takes a model file apart, in the order of its tensors, and packs weights as the kernels want them.
#pragma once

#include <string>
#include <vector>

#include "buffer.h"
#include "format.h"
#include "kernels.h"

namespace allmlp {

// A linear layer, packed: `start` is where accumulators begin (the bias, or in int8 -zero_point * sum of weights),
// `scale` and `shift` what is applied to them afterwards (int8 only). Numbers of outputs are padded with zeros.
struct Linear {
  Buffer weights, start, scale, shift;
  int64_t stride = 0;  // bytes from row to row, or from panel to panel
  int outputs = 0;     // rows, in whole groups; or panels
  int groups = 0;      // length of the sums
  Reach reach = Reach::any;  // of one made ready for Form::index
};

class Reader {
 public:
  // What it reads is kept in `arena`; `threads` pack weights.
  Reader(Source& source, Arena& arena, int threads);

  const Header& header() const { return header_; }
  const std::vector<BlockHeader>& blocks() const { return blocks_; }
  std::string about() const { return about_; }
  // Bytes of all tensors, as far as the source has so many.
  uint64_t tensor_bytes() const;

  // The next tensor, `rows` times `count` floats, each row padded with zeros to `padded`.
  Buffer floats(int64_t count, int64_t padded, int64_t rows = 1);
  // The same, by panels of `columns` numbers of each row: a panel is one piece of memory.
  Buffer float_panels(int64_t count, int64_t columns, int64_t rows);
  // The next table, for the sums of a layer of so many inputs, scaled by `columns` too. Throws BadModel where such a sum
  // could leave what an int32 holds, since kernels round it as it is.
  Buffer table(const Linear& layer, int inputs, const Buffer& columns);
  // The same for the layer that was read last, which is made ready for Form::index.
  Buffer table_of_indices(Linear& layer, int outputs, int inputs);
  // The next tensors: weights [outputs][inputs], in int8 scale [outputs], then bias or shift [outputs].
  Linear rows(const Kernels& kernels, int outputs, int inputs, int zero_point, bool bias = true);
  Linear panels(const Kernels& kernels, int outputs, int inputs, int zero_point);
  // Throws unless every tensor was read, and the file has its checksum.
  void finish();

 private:
  Linear linear(const Kernels& kernels, int outputs, int inputs, int zero_point, bool as_rows, bool bias);
  Buffer entries();
  TensorEntry next(uint64_t bytes);
  void read_rest();

  Source& source_;
  Arena& arena_;
  const int threads_;
  Header header_;
  std::vector<BlockHeader> blocks_;
  std::vector<TensorEntry> entries_;
  std::string about_;
  std::vector<int64_t> magnitudes_;  // of the int8 layer read last, those of each output's weights, summed
  int zero_point_ = 0;               // and what its inputs have
  size_t position_ = 0;
  uint64_t read_ = 0;  // bytes of tensors so far
};

}  // namespace allmlp
