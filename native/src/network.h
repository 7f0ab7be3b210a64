// A network, packed, with all the memory that running it takes.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "buffer.h"
#include "kernels.h"
#include "reader.h"
#include "threads.h"

namespace allmlp {

class Network {
 public:
  static constexpr int kTogether = 64;  // no more images than this are run at once

  // Throws BadModel for a file that can't be used, std::invalid_argument for a level or threads, std::bad_alloc before
  // any weight is read where they take more than `memory` bytes.
  Network(Source& source, const std::string& level, int threads, uint64_t memory = UINT64_MAX);

  // uint8 images [count][height][width][3] to float logits [count][classes]; count <= together(). Several threads of the
  // program may call; they wait for each other. The same images give the same logits to the bit, whatever their number.
  void run(const uint8_t* images, int64_t count, float* logits);

  // How many images `run` takes: at most for a second or so, in which nobody is heard, but one a thread.
  int together() const;

  const Header& header() const { return header_; }
  const std::string& about() const { return about_; }
  const char* level() const { return float_kernels_->level; }
  // Of the stem, then of each block's layers over tokens and over channels.
  const std::vector<Precision>& precisions() const { return precisions_; }
  // Of the linear layers in a precision, for one image.
  int64_t multiply_adds(Precision precision) const { return multiply_adds_[int(precision)]; }
  int64_t memory() const { return arena_.taken(); }         // bytes of weights and of all that runs in

 private:
  int64_t& multiply_adds_of(Precision precision) { return multiply_adds_[int(precision)]; }

  struct NormWeights {
    bool statistics;
    float epsilon;
    Buffer scale, shift;
  };
  // What the layers of one precision run with, and how far apart, in bytes, rows of their operands are.
  struct Kind {
    const Kernels* kernels = nullptr;  // null: no layer has this precision
    int64_t rows_stride = 0, hidden_stride = 0, gated_stride = 0;
    int most_rows = 0;  // of a block
  };
  struct Block {
    BlockHeader header;
    const Kind *over_tokens, *over_channels;
    NormWeights norm1, norm2;
    Linear tokens1, tokens2;  // mixer; ResMLP and gMLP's gate: the first only
    Buffer column_scale, shift, tokens_table, channels_table;
    Linear channels1, gate1, channels2;  // gate1: the half of gMLP's first layer that becomes the gate
  };
  struct Workspace {  // of one thread
    Buffer x, mean, rstd;                            // of the image that it works on
    Buffer gate, gated;                              // gMLP
    Buffer rows, hidden, panel, panel_hidden;        // of the piece under way
    Buffer carrier;                                  // gMLP: a panel of what the gate multiplies, as floats
  };
  struct Piece {  // thread `thread` of `threads` that share the image in `image`
    int thread, threads;
    Workspace& image;
    Workspace& own;
    Barrier& barrier;
  };

  NormWeights read_norm(Reader& reader, uint32_t kind, float epsilon, int64_t channels) const;
  Block read_block(Reader& reader, const BlockHeader& header);
  void choose_kernels(const Reader& reader, const std::string& level);
  void plan(int threads);
  void run_image(const uint8_t* image, const Piece& piece, float* pooled) const;
  void embed(const uint8_t* image, const Piece& piece) const;
  void mix_tokens(const Block& block, const Piece& piece) const;
  void mix_channels(const Block& block, const NormWeights& next, const Piece& piece) const;
  void gated_block(const Block& block, const NormWeights& next, const Piece& piece) const;
  void statistics(const NormWeights& norm, const float* x, int64_t stride, int channels, Workspace& w, int begin,
                  int end) const;
  Norm norm_of(const NormWeights& norm, const Workspace& w, const float* x, int64_t stride, int channels, int begin,
               int end) const;
  template <class Work>
  void each_row_block(const Kind& kind, const Piece& piece, Work work) const;

  Arena arena_;  // first, since all buffers lie in it
  Header header_;
  std::string about_;
  std::vector<Precision> precisions_;
  Kind kinds_[3];                 // by precision, all of one level
  const Kind* stem_kind_;
  const Kernels* float_kernels_;  // fp32: the head, and what is in float anyway, statistics and the mean over tokens
  int threads_, tokens_, width_, columns_, padded_width_, panels_;
  int64_t x_stride_, half_stride_;
  int64_t multiply_adds_[3] = {};
  Linear stem_, head_;
  NormWeights norm_;
  std::vector<Block> blocks_;
  std::vector<Workspace> workspaces_;
  Buffer pooled_, head_out_;
  OfThisProcess<std::mutex> running_;
};

}  // namespace allmlp
