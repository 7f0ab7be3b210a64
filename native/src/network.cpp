#include "network.h"

#include <algorithm>
#include <stdexcept>

#include "table.h"

namespace allmlp {
namespace {

constexpr int64_t kHiddenBytes = 512 << 10;  // of the hidden activations of a block of rows: they must not leave L2
constexpr int kStemZeroPoint = 128;          // the stem sees pixels - 128

const Kernels& kernels_of(const std::string& level, Source& source) {
  Header header;
  source.read(0, &header, sizeof header);
  if (header.precision > 2) throw BadModel("not a model of this engine, or damaged");
  return find_kernels(level, static_cast<Precision>(header.precision));
}

// The part [begin, end) of `count` things that belongs to thread `i` of `n`.
int begin_of(int64_t count, int i, int n) { return int(count * i / n); }

}  // namespace

Network::Network(Source& source, const std::string& level, int threads)
    : kernels_(kernels_of(level, source)), head_kernels_(find_kernels(kernels_.level, Precision::fp32)) {
  if (threads < 1 || threads > 256) throw std::invalid_argument("threads must be 1 to 256");
  arena_.expect(source.size());
  Reader reader(source, arena_, threads);
  header_ = reader.header();
  about_ = reader.about();
  threads_ = threads;
  tokens_ = int(reader.tokens());
  width_ = int(header_.width);
  padded_width_ = int(round_up(width_, kernels_.columns));
  panels_ = padded_width_ / kernels_.columns;
  const int pixels = int(header_.patch_height * header_.patch_width * 3);
  const int64_t classes = header_.classes;

  stem_ = reader.panels(kernels_, width_, pixels, kStemZeroPoint);
  multiply_adds_ = int64_t(tokens_) * width_ * pixels + classes * width_;
  for (const BlockHeader& block : reader.blocks()) blocks_.push_back(read_block(reader, block));
  norm_ = read_norm(reader, header_.norm, header_.norm_epsilon, width_);
  head_ = reader.panels(head_kernels_, int(classes), width_, 0);
  reader.finish();
  plan(threads);
  arena_.give_back();
}

Network::NormWeights Network::read_norm(Reader& reader, uint32_t kind, float epsilon, int64_t channels) const {
  NormWeights norm;
  norm.statistics = kind == static_cast<uint32_t>(NormKind::layernorm);
  norm.epsilon = epsilon;
  const int64_t padded = round_up(channels, kernels_.columns);
  norm.scale = reader.floats(channels, padded);
  norm.shift = reader.floats(channels, padded);
  return norm;
}

Network::Block Network::read_block(Reader& reader, const BlockHeader& h) {
  const bool int8 = kernels_.precision == Precision::int8;
  const int* zero = reinterpret_cast<const int*>(h.zero_points);
  const int64_t tokens = tokens_, width = width_, hidden = h.channel_hidden;
  Block block;
  block.header = h;
  if (h.family == uint32_t(Family::gmlp)) {
    const int half = int(hidden / 2);
    const int64_t padded_half = round_up(half, kernels_.columns);
    block.norm1 = read_norm(reader, h.norm1, h.epsilon1, width);
    block.channels1 = reader.panels(kernels_, half, width_, zero[2]);
    block.gate1 = reader.panels(kernels_, half, width_, zero[2]);
    block.norm2 = read_norm(reader, h.norm2, h.epsilon2, half);
    block.tokens1 = reader.rows(kernels_, tokens_, tokens_, zero[0]);
    if (int8) block.column_scale = reader.floats(half, padded_half);
    block.channels2 = reader.panels(kernels_, width_, half, zero[3]);
    multiply_adds_ += tokens * width * (hidden + half) + tokens * tokens * half;
    return block;
  }
  block.norm1 = read_norm(reader, h.norm1, h.epsilon1, width);
  if (h.family == uint32_t(Family::mixer)) {
    const int token_hidden = int(h.token_hidden);
    block.tokens1 = reader.rows(kernels_, token_hidden, tokens_, zero[0]);
    if (int8) {
      block.column_scale = reader.floats(width, padded_width_);
      block.tokens_table = reader.table();
    }
    block.tokens2 = reader.rows(kernels_, tokens_, token_hidden, zero[1]);
    multiply_adds_ += 2 * tokens * width * token_hidden;
  } else {
    block.tokens1 = reader.rows(kernels_, tokens_, tokens_, zero[0], false);
    block.column_scale = reader.floats(width, padded_width_);
    block.shift = reader.floats(width, padded_width_, tokens);
    multiply_adds_ += tokens * tokens * width;
  }
  block.norm2 = read_norm(reader, h.norm2, h.epsilon2, width);
  block.channels1 = reader.panels(kernels_, int(hidden), width_, zero[2]);
  if (int8) block.channels_table = reader.table();
  block.channels2 = reader.panels(kernels_, width_, int(hidden), zero[3]);
  multiply_adds_ += 2 * tokens * width * hidden;
  return block;
}

// All memory that a call takes, for as many images at a time as there are threads.
void Network::plan(int threads) {
  const int bytes = bytes_of(kernels_.row), group = kernels_.group, columns = kernels_.columns;
  int64_t most_hidden = 0, most_half = 0, most_token_hidden = 0;
  for (const Block& block : blocks_) {
    const BlockHeader& h = block.header;
    if (h.family == uint32_t(Family::gmlp))
      most_half = std::max<int64_t>(most_half, h.channel_hidden / 2);
    else
      most_hidden = std::max<int64_t>(most_hidden, h.channel_hidden);
    if (h.family == uint32_t(Family::mixer)) most_token_hidden = std::max<int64_t>(most_token_hidden, h.token_hidden);
  }
  const int64_t pixels = int64_t(header_.patch_height) * header_.patch_width * 3;
  x_stride_ = row_stride(int64_t(padded_width_) * 4) / 4;
  rows_stride_ = row_stride(std::max<int64_t>(padded_width_, round_up(pixels, columns)) * bytes);
  hidden_stride_ = row_stride(round_up(most_hidden, columns) * bytes);
  half_stride_ = row_stride(round_up(most_half, columns) * 4) / 4;
  gated_stride_ = row_stride(round_up(most_half, columns) * bytes);
  const int64_t tiles = kHiddenBytes / std::max<int64_t>(hidden_stride_ * kernels_.rows, 1);
  most_rows_ = int(std::min<int64_t>(tokens_, std::clamp<int64_t>(tiles, 2, 16) * kernels_.rows));

  const int64_t panel_bytes = int64_t(columns) * bytes_of(kernels_.panel);
  for (int i = 0; i < threads; ++i) {
    Workspace w;
    w.x = arena_.take(tokens_ * x_stride_ * 4);
    w.mean = arena_.take(tokens_ * 4);
    w.rstd = arena_.take(tokens_ * 4);
    for (int t = 0; t < tokens_; ++t) w.rstd.floats()[t] = 1;  // for norms without statistics
    w.rows = arena_.take(most_rows_ * rows_stride_);
    w.hidden = arena_.take(most_rows_ * hidden_stride_);
    w.panel = arena_.take(round_up(tokens_, group) * panel_bytes);
    w.panel_hidden = arena_.take(round_up(most_token_hidden, group) * panel_bytes);
    if (most_half) {
      w.carrier = arena_.take(tokens_ * half_stride_ * 4);
      w.gate = arena_.take(tokens_ * half_stride_ * 4);
      w.gated = arena_.take(tokens_ * gated_stride_);
    }
    workspaces_.push_back(std::move(w));
  }
  pooled_ = arena_.take(int64_t(chunk_) * x_stride_ * 4);
  head_out_ = arena_.take(int64_t(chunk_) * head_.outputs * head_kernels_.columns * 4);
}

void Network::run(const uint8_t* images, int64_t count, float* logits) {
  std::lock_guard<std::mutex> lock(running_.get());
  const int64_t image_bytes = int64_t(header_.image_height) * header_.image_width * 3, classes = header_.classes;
  for (int64_t first = 0; first < count; first += chunk_) {
    const int here = int(std::min<int64_t>(chunk_, count - first));
    // One image per thread as long as that keeps all threads busy; the images left over are each split.
    const int spread = here / threads_ * threads_;
    const int threads = threads_;
    Barrier barrier(threads);
    const auto work = [&](int thread) {
      Barrier alone(1);
      for (int i = thread; i < spread; i += threads) {
        Workspace& own = workspaces_[thread];
        run_image(images + (first + i) * image_bytes, {0, 1, own, own, alone}, pooled_.floats() + i * x_stride_);
      }
      if (threads > 1 && spread > 0) barrier.wait();
      for (int i = spread; i < here; ++i)
        run_image(images + (first + i) * image_bytes, {thread, threads, workspaces_[0], workspaces_[thread], barrier},
                  pooled_.floats() + i * x_stride_);
      if (threads > 1) barrier.wait();
      // The head, for all images at once: its weights are read once.
      const int begin = begin_of(head_.outputs, thread, threads), end = begin_of(head_.outputs, thread + 1, threads);
      const int columns = head_kernels_.columns;
      Gemm g{};
      g.a = pooled_.bytes(), g.a_stride = x_stride_ * 4;
      g.b = head_.weights.bytes() + begin * head_.stride, g.panel_stride = head_.stride;
      g.rows = here, g.panels = end - begin, g.groups = head_.groups;
      g.column_start = head_.start.floats() + int64_t(begin) * columns;
      g.x = head_out_.floats() + int64_t(begin) * columns, g.x_stride = int64_t(head_.outputs) * columns;
      if (g.panels > 0) head_kernels_.gemm(g);
    };
    run_on_threads(threads, std::cref(work));
    for (int i = 0; i < here; ++i)
      std::memcpy(logits + (first + i) * classes,
                  head_out_.floats() + int64_t(i) * head_.outputs * head_kernels_.columns, classes * 4);
  }
}

template <class Work>
void Network::each_row_block(const Piece& p, Work work) const {
  const int begin = begin_of(tokens_, p.thread, p.threads), end = begin_of(tokens_, p.thread + 1, p.threads);
  const int blocks = (end - begin + most_rows_ - 1) / most_rows_;
  for (int i = 0; i < blocks; ++i)
    work(begin + begin_of(end - begin, i, blocks), begin + begin_of(end - begin, i + 1, blocks));
}

void Network::statistics(const NormWeights& norm, const float* x, int64_t stride, int channels, Workspace& w, int begin,
                         int end) const {
  if (norm.statistics) {
    kernels_.statistics(x + begin * stride, stride, end - begin, channels, norm.epsilon, w.mean.floats() + begin,
                        w.rstd.floats() + begin);
  } else {
    std::fill(w.mean.floats() + begin, w.mean.floats() + end, 0.f);
    std::fill(w.rstd.floats() + begin, w.rstd.floats() + end, 1.f);
  }
}

Norm Network::norm_of(const NormWeights& norm, const Workspace& w, const float* x, int64_t stride, int channels,
                      int begin, int end) const {
  return {x + begin * stride, stride, w.mean.floats() + begin, w.rstd.floats() + begin, norm.scale.floats(),
          norm.shift.floats(), int(round_up(channels, kernels_.columns)), end - begin};
}

void Network::run_image(const uint8_t* image, const Piece& p, float* pooled) const {
  embed(image, p);
  p.barrier.wait();
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const NormWeights& next = i + 1 < blocks_.size() ? blocks_[i + 1].norm1 : norm_;
    if (blocks_[i].header.family == uint32_t(Family::gmlp)) {
      gated_block(blocks_[i], next, p);
    } else {
      mix_tokens(blocks_[i], p);
      p.barrier.wait();
      mix_channels(blocks_[i], next, p);
    }
    p.barrier.wait();
  }
  Norm norm = norm_of(norm_, p.image, p.image.x.floats(), x_stride_, width_, 0, tokens_);
  const int columns = kernels_.columns;
  for (int panel = begin_of(panels_, p.thread, p.threads); panel < begin_of(panels_, p.thread + 1, p.threads); ++panel) {
    norm.x = p.image.x.floats() + panel * columns;
    norm.scale = norm_.scale.floats() + panel * columns;
    norm.shift = norm_.shift.floats() + panel * columns;
    kernels_.pool(norm, pooled + panel * columns);
  }
  if (p.threads > 1) p.barrier.wait();  // before the next image takes this one's place
}

namespace {

// What a product over channels takes and gives: int8 scales its sums by column, the others began with the bias.
Gemm channel_product(const Linear& linear, const void* rows, int64_t stride, int count) {
  Gemm g{};
  g.a = rows, g.a_stride = stride, g.rows = count;
  g.b = linear.weights.bytes(), g.panel_stride = linear.stride, g.panels = linear.outputs, g.groups = linear.groups;
  g.column_start = linear.start.bytes();
  if (linear.scale.size()) {
    g.form = Form::columns;
    g.column_scale = linear.scale.floats(), g.column_shift = linear.shift.floats();
  }
  return g;
}

// A product over tokens for one panel of channels.
Gemm token_product(const Linear& linear, const void* panel, int rows) {
  Gemm g{};
  g.a = linear.weights.bytes(), g.a_stride = linear.stride, g.rows = rows;
  g.b = panel, g.panels = 1, g.groups = linear.groups;
  g.weights_are_rows = true;
  g.row_start = linear.start.bytes();
  if (linear.scale.size()) {
    g.form = Form::rows;
    g.row_scale = linear.scale.floats(), g.row_shift = linear.shift.floats();
  }
  return g;
}

}  // namespace

void Network::embed(const uint8_t* image, const Piece& p) const {
  const int patch_width = int(header_.patch_width), patch_height = int(header_.patch_height);
  const int across = int(header_.image_width) / patch_width;
  const int run = patch_width * 3, bytes = bytes_of(kernels_.row);
  const int64_t line = int64_t(header_.image_width) * 3;
  each_row_block(p, [&](int begin, int end) {
    for (int t = begin; t < end; ++t)
      for (int y = 0; y < patch_height; ++y)
        kernels_.bytes(image + (int64_t(t / across) * patch_height + y) * line + int64_t(t % across) * run, run,
                       p.own.rows.bytes() + (t - begin) * rows_stride_ + int64_t(y) * run * bytes);
    Gemm g = channel_product(stem_, p.own.rows.bytes(), rows_stride_, end - begin);
    g.x = p.image.x.floats() + begin * x_stride_, g.x_stride = x_stride_;
    kernels_.gemm(g);
    statistics(blocks_[0].norm1, p.image.x.floats(), x_stride_, width_, p.image, begin, end);
  });
}

void Network::mix_tokens(const Block& block, const Piece& p) const {
  const int columns = kernels_.columns;
  Norm norm = norm_of(block.norm1, p.image, p.image.x.floats(), x_stride_, width_, 0, tokens_);
  for (int panel = begin_of(panels_, p.thread, p.threads); panel < begin_of(panels_, p.thread + 1, p.threads); ++panel) {
    const int64_t first = int64_t(panel) * columns;
    norm.x = p.image.x.floats() + first;
    norm.scale = block.norm1.scale.floats() + first;
    norm.shift = block.norm1.shift.floats() + first;
    kernels_.norm_panel(norm, p.own.panel.bytes());
    Gemm last;
    if (block.header.family == uint32_t(Family::mixer)) {
      Gemm g = token_product(block.tokens1, p.own.panel.bytes(), block.tokens1.outputs);
      if (block.column_scale.size()) {
        g.form = Form::rows_columns;
        g.column_scale = block.column_scale.floats() + first;
        g.table = reinterpret_cast<const uint8_t*>(block.tokens_table.bytes());
      }
      g.output = Output::panels, g.gelu = int(block.header.gelu);
      g.out = p.own.panel_hidden.bytes();
      kernels_.gemm(g);
      last = token_product(block.tokens2, p.own.panel_hidden.bytes(), tokens_);
    } else {
      last = token_product(block.tokens1, p.own.panel.bytes(), tokens_);
      last.form = Form::table;
      last.column_scale = block.column_scale.floats() + first;
      last.shift = block.shift.floats() + first, last.shift_stride = padded_width_;
    }
    last.output = Output::add;
    last.x = p.image.x.floats() + first, last.x_stride = x_stride_;
    kernels_.gemm(last);
  }
}

void Network::mix_channels(const Block& block, const NormWeights& next, const Piece& p) const {
  float* x = p.image.x.floats();
  each_row_block(p, [&](int begin, int end) {
    statistics(block.norm2, x, x_stride_, width_, p.image, begin, end);
    kernels_.norm_rows(norm_of(block.norm2, p.image, x, x_stride_, width_, begin, end), p.own.rows.bytes(), rows_stride_);
    Gemm g = channel_product(block.channels1, p.own.rows.bytes(), rows_stride_, end - begin);
    g.output = Output::rows, g.gelu = int(block.header.gelu);
    g.table = reinterpret_cast<const uint8_t*>(block.channels_table.bytes());
    g.out = p.own.hidden.bytes(), g.out_stride = hidden_stride_;
    kernels_.gemm(g);
    Gemm last = channel_product(block.channels2, p.own.hidden.bytes(), hidden_stride_, end - begin);
    last.output = Output::add;
    last.x = x + begin * x_stride_, last.x_stride = x_stride_;
    kernels_.gemm(last);
    statistics(next, x, x_stride_, width_, p.image, begin, end);
  });
}

// gMLP: channels out to both halves, the gate over tokens, channels back.
void Network::gated_block(const Block& block, const NormWeights& next, const Piece& p) const {
  const int half = int(block.header.channel_hidden / 2), columns = kernels_.columns;
  const int panels = int(round_up(half, columns)) / columns;
  float *x = p.image.x.floats(), *carrier = p.image.carrier.floats(), *gate = p.image.gate.floats();
  each_row_block(p, [&](int begin, int end) {
    kernels_.norm_rows(norm_of(block.norm1, p.image, x, x_stride_, width_, begin, end), p.own.rows.bytes(), rows_stride_);
    for (const auto& [linear, to] : {std::pair(&block.channels1, carrier), std::pair(&block.gate1, gate)}) {
      Gemm g = channel_product(*linear, p.own.rows.bytes(), rows_stride_, end - begin);
      g.output = Output::gelu, g.gelu = int(block.header.gelu);
      g.x = to + begin * half_stride_, g.x_stride = half_stride_;
      kernels_.gemm(g);
    }
    statistics(block.norm2, gate, half_stride_, half, p.image, begin, end);
  });
  p.barrier.wait();
  Norm norm = norm_of(block.norm2, p.image, gate, half_stride_, half, 0, tokens_);
  for (int panel = begin_of(panels, p.thread, p.threads); panel < begin_of(panels, p.thread + 1, p.threads); ++panel) {
    const int64_t first = int64_t(panel) * columns;
    norm.x = gate + first;
    norm.scale = block.norm2.scale.floats() + first;
    norm.shift = block.norm2.shift.floats() + first;
    kernels_.norm_panel(norm, p.own.panel.bytes());
    Gemm g = token_product(block.tokens1, p.own.panel.bytes(), tokens_);
    if (block.column_scale.size()) {
      g.form = Form::rows_columns;
      g.column_scale = block.column_scale.floats() + first;
      g.out_scale = block.header.gate_scale, g.out_shift = block.header.gate_shift;
    }
    g.output = Output::rows;
    g.gate = carrier + first, g.gate_stride = half_stride_;
    g.out = p.image.gated.bytes() + first * bytes_of(kernels_.row), g.out_stride = gated_stride_;
    kernels_.gemm(g);
  }
  p.barrier.wait();
  each_row_block(p, [&](int begin, int end) {
    Gemm g = channel_product(block.channels2, p.image.gated.bytes() + begin * gated_stride_, gated_stride_, end - begin);
    g.output = Output::add;
    g.x = x + begin * x_stride_, g.x_stride = x_stride_;
    kernels_.gemm(g);
    statistics(next, x, x_stride_, width_, p.image, begin, end);
  });
}

}  // namespace allmlp
