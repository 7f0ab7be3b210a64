#include "network.h"

#include <algorithm>
#include <stdexcept>

#include "table.h"

namespace allmlp {
namespace {

// Of the hidden activations of a block of rows. They should not leave L2; but a thread that has L3 to itself loses less by
// that than by reading the weights again for each block, 1.5 to 2 % in fp32 at batch 1.
constexpr int64_t kHiddenBytes = 512 << 10, kHiddenBytesAlone = 4 << 20;
constexpr int64_t kAtOnce = int64_t(1) << 37;  // multiply-adds of images that run together: 1.3 s of two fast cores in fp32
constexpr int kStemZeroPoint = 128;          // the stem sees pixels - 128

// The part [begin, end) of `count` things that belongs to thread `i` of `n`.
int begin_of(int64_t count, int i, int n) { return int(count * i / n); }

}  // namespace

Network::Network(Source& source, const std::string& level, int threads, uint64_t memory) {
  if (threads < 1 || threads > 256) throw std::invalid_argument("threads must be 1 to 256");
  arena_.expect(source.size());
  Reader reader(source, arena_, threads);
  if (reader.tensor_bytes() > memory) throw std::bad_alloc();
  header_ = reader.header();
  about_ = reader.about();
  threads_ = threads;
  tokens_ = int(header_.tokens());
  width_ = int(header_.width);
  choose_kernels(reader, level);
  padded_width_ = int(round_up(width_, columns_));
  panels_ = padded_width_ / columns_;
  const int pixels = int(header_.patch_height * header_.patch_width * 3);
  const int64_t classes = header_.classes;

  stem_ = reader.panels(*stem_kind_->kernels, width_, pixels, kStemZeroPoint);
  multiply_adds_of(Precision(header_.precision)) += int64_t(tokens_) * width_ * pixels;
  multiply_adds_of(Precision::fp32) += classes * width_;
  for (const BlockHeader& block : reader.blocks()) blocks_.push_back(read_block(reader, block));
  norm_ = read_norm(reader, header_.norm, header_.norm_epsilon, width_);
  head_ = reader.panels(*float_kernels_, int(classes), width_, 0);
  reader.finish();
  plan(threads);
  arena_.give_back();
}

void Network::choose_kernels(const Reader& reader, const std::string& level) {
  precisions_ = {static_cast<Precision>(header_.precision)};
  for (const BlockHeader& block : reader.blocks())
    for (uint32_t precision : {block.token_precision, block.channel_precision})
      precisions_.push_back(static_cast<Precision>(precision));
  const std::string chosen = level == "auto" ? best_level(precisions_) : level;
  for (Precision precision : precisions_) kinds_[int(precision)].kernels = &find_kernels(chosen, precision);
  stem_kind_ = &kinds_[header_.precision];
  float_kernels_ = &find_kernels(chosen, Precision::fp32);
  columns_ = float_kernels_->columns;  // those of the whole level: norms and residuals lie in them
  for (const Kind& kind : kinds_)
    if (kind.kernels && kind.kernels->columns != columns_) throw std::logic_error("kernels of one level differ");
}

Network::NormWeights Network::read_norm(Reader& reader, uint32_t kind, float epsilon, int64_t channels) const {
  NormWeights norm;
  norm.statistics = kind == static_cast<uint32_t>(NormKind::layernorm);
  norm.epsilon = epsilon;
  const int64_t padded = round_up(channels, columns_);
  norm.scale = reader.floats(channels, padded);
  norm.shift = reader.floats(channels, padded);
  return norm;
}

Network::Block Network::read_block(Reader& reader, const BlockHeader& h) {
  const int* zero = reinterpret_cast<const int*>(h.zero_points);
  const int64_t tokens = tokens_, width = width_, hidden = h.channel_hidden;
  Block block;
  block.header = h;
  block.over_tokens = &kinds_[h.token_precision], block.over_channels = &kinds_[h.channel_precision];
  const Kernels &over_tokens = *block.over_tokens->kernels, &over_channels = *block.over_channels->kernels;
  const bool int8_tokens = over_tokens.precision == Precision::int8;
  const bool int8_channels = over_channels.precision == Precision::int8;
  if (h.family == uint32_t(Family::gmlp)) {
    const int half = int(hidden / 2);
    const int64_t padded_half = round_up(half, columns_);
    block.norm1 = read_norm(reader, h.norm1, h.epsilon1, width);
    block.channels1 = reader.panels(over_channels, half, width_, zero[2]);
    block.gate1 = reader.panels(over_channels, half, width_, zero[2]);
    block.norm2 = read_norm(reader, h.norm2, h.epsilon2, half);
    block.tokens1 = reader.rows(over_tokens, tokens_, tokens_, zero[0]);
    if (int8_tokens) {  // (v * gate) * scale = (v * scale) * gate, and v's own scales can take it beforehand
      block.column_scale = reader.floats(half, padded_half);
      for (int c = 0; c < half; ++c) block.column_scale.floats()[c] *= h.gate_scale;
      for (int t = 0; t < tokens_; ++t) block.tokens1.shift.floats()[t] *= h.gate_scale;
    }
    block.channels2 = reader.panels(over_channels, width_, half, zero[3]);
    multiply_adds_of(over_channels.precision) += tokens * width * (hidden + half) + tokens * tokens * half;
    return block;
  }
  block.norm1 = read_norm(reader, h.norm1, h.epsilon1, width);
  if (h.family == uint32_t(Family::mixer)) {
    const int token_hidden = int(h.token_hidden);
    block.tokens1 = reader.rows(over_tokens, token_hidden, tokens_, zero[0]);
    if (int8_tokens) {
      block.column_scale = reader.floats(width, padded_width_);
      block.tokens_table = reader.table(block.tokens1, tokens_, block.column_scale);
    }
    block.tokens2 = reader.rows(over_tokens, tokens_, token_hidden, zero[1]);
    multiply_adds_of(over_tokens.precision) += 2 * tokens * width * token_hidden;
  } else {
    block.tokens1 = reader.rows(over_tokens, tokens_, tokens_, zero[0], false);
    block.column_scale = reader.floats(width, padded_width_);
    block.shift = reader.float_panels(width, columns_, tokens);
    multiply_adds_of(over_tokens.precision) += tokens * tokens * width;
  }
  block.norm2 = read_norm(reader, h.norm2, h.epsilon2, width);
  block.channels1 = reader.panels(over_channels, int(hidden), width_, zero[2]);
  if (int8_channels) block.channels_table = reader.table_of_indices(block.channels1, int(hidden), width_);
  block.channels2 = reader.panels(over_channels, width_, int(hidden), zero[3]);
  multiply_adds_of(over_channels.precision) += 2 * tokens * width * hidden;
  return block;
}

// All memory that a call takes, for as many images at a time as there are threads.
void Network::plan(int threads) {
  const int64_t pixels = int64_t(header_.patch_height) * header_.patch_width * 3;
  int64_t most_half = 0, rows = 0, hidden = 0, gated = 0, panel = 0, panel_hidden = 0;  // the rest: bytes
  const int64_t most_hidden = threads > 1 ? kHiddenBytes : kHiddenBytesAlone;
  for (Kind& kind : kinds_) {
    if (!kind.kernels) continue;
    const Kernels& kernels = *kind.kernels;
    int64_t its_hidden = 0, its_half = 0, its_token_hidden = 0;  // the longest that layers of this kind have
    for (const Block& block : blocks_) {
      const BlockHeader& h = block.header;
      if (h.family == uint32_t(Family::mixer) && block.over_tokens == &kind)
        its_token_hidden = std::max<int64_t>(its_token_hidden, h.token_hidden);
      if (block.over_channels != &kind) continue;
      int64_t& longest = h.family == uint32_t(Family::gmlp) ? its_half : its_hidden;
      longest = std::max<int64_t>(longest, &longest == &its_half ? h.channel_hidden / 2 : h.channel_hidden);
    }
    const int bytes = bytes_of(kernels.row), group = kernels.group;
    kind.rows_stride = row_stride(std::max<int64_t>(padded_width_, round_up(pixels, columns_)) * bytes);
    kind.hidden_stride = row_stride(round_up(its_hidden, columns_) * bytes);
    kind.gated_stride = row_stride(round_up(its_half, columns_) * bytes);
    const int64_t tiles = most_hidden / std::max<int64_t>(kind.hidden_stride * kernels.rows, 1);
    kind.most_rows = int(std::min<int64_t>(tokens_, std::clamp<int64_t>(tiles, 2, 16) * kernels.rows));
    const int64_t panel_bytes = int64_t(columns_) * bytes_of(kernels.panel);
    // gMLP keeps those of the whole image.
    rows = std::max(rows, (its_half ? tokens_ : kind.most_rows) * kind.rows_stride);
    hidden = std::max(hidden, kind.most_rows * kind.hidden_stride);
    panel = std::max(panel, round_up(tokens_, group) * panel_bytes);
    panel_hidden = std::max(panel_hidden, round_up(its_token_hidden, group) * panel_bytes);
    most_half = std::max(most_half, its_half);
    if (its_half) gated = std::max(gated, tokens_ * kind.gated_stride);
  }
  x_stride_ = row_stride(int64_t(padded_width_) * 4) / 4;
  half_stride_ = row_stride(round_up(most_half, columns_) * 4) / 4;

  for (int i = 0; i < threads; ++i) {
    Workspace w;
    w.x = arena_.take(tokens_ * x_stride_ * 4);
    w.mean = arena_.take(tokens_ * 4);
    w.rstd = arena_.take(tokens_ * 4);
    for (int t = 0; t < tokens_; ++t) w.rstd.floats()[t] = 1;  // for norms without statistics
    w.rows = arena_.take(rows);
    w.hidden = arena_.take(hidden);
    w.panel = arena_.take(panel);
    w.panel_hidden = arena_.take(panel_hidden);
    if (most_half) {
      w.carrier = arena_.take(int64_t(tokens_) * columns_ * 4);
      w.gate = arena_.take(tokens_ * half_stride_ * 4);
      w.gated = arena_.take(gated);
    }
    workspaces_.push_back(std::move(w));
  }
  pooled_ = arena_.take(int64_t(kTogether) * x_stride_ * 4);
  head_out_ = arena_.take(int64_t(kTogether) * head_.outputs * columns_ * 4);
}

int Network::together() const {
  int64_t image = 1;
  for (int64_t of_precision : multiply_adds_) image += of_precision;
  const int whole = int(std::min<int64_t>(kTogether, kAtOnce / image)) / threads_ * threads_;
  return std::clamp(whole, std::min(threads_, kTogether), kTogether);
}

void Network::run(const uint8_t* images, int64_t count, float* logits) {
  std::lock_guard<std::mutex> lock(running_.get());
  const int64_t image_bytes = int64_t(header_.image_height) * header_.image_width * 3, classes = header_.classes;
  const int here = int(count);
  // One image per thread as long as that keeps all threads busy; the images left over are each split.
  const int spread = here / threads_ * threads_;
  const int threads = threads_;
  Barrier barrier(threads);
  const auto work = [&](int thread) {
    Barrier alone(1);
    for (int i = thread; i < spread; i += threads) {
      Workspace& own = workspaces_[thread];
      run_image(images + i * image_bytes, {0, 1, own, own, alone}, pooled_.floats() + i * x_stride_);
    }
    if (threads > 1 && spread > 0) barrier.wait();
    for (int i = spread; i < here; ++i)
      run_image(images + i * image_bytes, {thread, threads, workspaces_[0], workspaces_[thread], barrier},
                pooled_.floats() + i * x_stride_);
    if (threads > 1) barrier.wait();
    // The head, for all images at once: its weights are read once.
    const int begin = begin_of(head_.outputs, thread, threads), end = begin_of(head_.outputs, thread + 1, threads);
    Gemm g{};
    g.a = pooled_.bytes(), g.a_stride = x_stride_ * 4;
    g.b = head_.weights.bytes() + begin * head_.stride, g.panel_stride = head_.stride;
    g.rows = here, g.panels = end - begin, g.groups = head_.groups;
    g.column_start = head_.start.floats() + int64_t(begin) * columns_;
    g.x = head_out_.floats() + int64_t(begin) * columns_, g.x_stride = int64_t(head_.outputs) * columns_;
    if (g.panels > 0) float_kernels_->gemm(g);
  };
  run_on_threads(threads, std::cref(work));
  for (int i = 0; i < here; ++i)
    std::memcpy(logits + i * classes,
                head_out_.floats() + int64_t(i) * head_.outputs * columns_, classes * 4);
}

template <class Work>
void Network::each_row_block(const Kind& kind, const Piece& p, Work work) const {
  const int begin = begin_of(tokens_, p.thread, p.threads), end = begin_of(tokens_, p.thread + 1, p.threads);
  const int blocks = (end - begin + kind.most_rows - 1) / kind.most_rows;
  for (int i = 0; i < blocks; ++i)
    work(begin + begin_of(end - begin, i, blocks), begin + begin_of(end - begin, i + 1, blocks));
}

void Network::statistics(const NormWeights& norm, const float* x, int64_t stride, int channels, Workspace& w, int begin,
                         int end) const {
  if (norm.statistics) {
    float_kernels_->statistics(x + begin * stride, stride, end - begin, channels, norm.epsilon, w.mean.floats() + begin,
                        w.rstd.floats() + begin);
  } else {
    std::fill(w.mean.floats() + begin, w.mean.floats() + end, 0.f);
    std::fill(w.rstd.floats() + begin, w.rstd.floats() + end, 1.f);
  }
}

Norm Network::norm_of(const NormWeights& norm, const Workspace& w, const float* x, int64_t stride, int channels,
                      int begin, int end) const {
  return {x + begin * stride, stride, w.mean.floats() + begin, w.rstd.floats() + begin, norm.scale.floats(),
          norm.shift.floats(), int(round_up(channels, columns_)), end - begin};
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
  for (int panel = begin_of(panels_, p.thread, p.threads); panel < begin_of(panels_, p.thread + 1, p.threads); ++panel) {
    norm.x = p.image.x.floats() + panel * columns_;
    norm.scale = norm_.scale.floats() + panel * columns_;
    norm.shift = norm_.shift.floats() + panel * columns_;
    float_kernels_->pool(norm, pooled + panel * columns_);
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

void set_table(Gemm& g, const Buffer& table) {
  g.table = reinterpret_cast<const uint8_t*>(table.bytes());
  g.goes_on = goes_on(g.table);
}

// The part of a product over channels that gives one panel of its outputs.
Gemm panel_of(Gemm g, int panel, int columns) {
  g.b = static_cast<const char*>(g.b) + panel * g.panel_stride, g.panels = 1;
  const int64_t first = int64_t(panel) * columns;
  g.column_start = static_cast<const char*>(g.column_start) + first * 4;
  if (g.form == Form::columns) g.column_scale += first, g.column_shift += first;
  return g;
}

// Rows [begin, end) of the panel of channels behind the one at `x`, while a product runs that has nothing to do with them.
void fetch_behind(Gemm& g, const float* x, int64_t stride, int columns, int begin, int end) {
  g.next = x + columns + begin * stride, g.next_stride = stride, g.next_rows = end - begin;
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
  const Kernels& kernels = *stem_kind_->kernels;
  const int run = patch_width * 3, bytes = bytes_of(kernels.row), pixels = run * patch_height;
  const int64_t line = int64_t(header_.image_width) * 3, stride = stem_kind_->rows_stride;
  const int64_t rest = (round_up(pixels, kernels.group) - pixels) * bytes;  // what the last group has too many
  each_row_block(*stem_kind_, p, [&](int begin, int end) {
    for (int first = begin, last; first < end; first = last) {  // line by line, as the image lies
      last = std::min(end, (first / across + 1) * across);
      for (int y = 0; y < patch_height; ++y)
        for (int t = first; t < last; ++t)
          kernels.bytes(image + (int64_t(t / across) * patch_height + y) * line + int64_t(t % across) * run, run,
                        p.own.rows.bytes() + (t - begin) * stride + int64_t(y) * run * bytes);
    }
    // Their weights are 0, but what a layer of another precision left there need not be a number.
    for (int t = begin; t < end; ++t)
      std::memset(p.own.rows.bytes() + (t - begin) * stride + int64_t(pixels) * bytes, 0, rest);
    Gemm g = channel_product(stem_, p.own.rows.bytes(), stride, end - begin);
    g.x = p.image.x.floats() + begin * x_stride_, g.x_stride = x_stride_;
    kernels.gemm(g);
    statistics(blocks_[0].norm1, p.image.x.floats(), x_stride_, width_, p.image, begin, end);
  });
}

void Network::mix_tokens(const Block& block, const Piece& p) const {
  const Kernels& kernels = *block.over_tokens->kernels;
  Norm norm = norm_of(block.norm1, p.image, p.image.x.floats(), x_stride_, width_, 0, tokens_);
  const int end = begin_of(panels_, p.thread + 1, p.threads);
  for (int panel = begin_of(panels_, p.thread, p.threads); panel < end; ++panel) {
    const int64_t first = int64_t(panel) * columns_;
    int fetched = 0;
    norm.x = p.image.x.floats() + first;
    norm.scale = block.norm1.scale.floats() + first;
    norm.shift = block.norm1.shift.floats() + first;
    kernels.norm_panel(norm, p.own.panel.bytes());
    Gemm last;
    if (block.header.family == uint32_t(Family::mixer)) {
      Gemm g = token_product(block.tokens1, p.own.panel.bytes(), block.tokens1.outputs);
      if (block.column_scale.size()) {
        g.form = Form::rows_columns;
        g.column_scale = block.column_scale.floats() + first;
        set_table(g, block.tokens_table);
      }
      g.output = Output::panels, g.gelu = int(block.header.gelu);
      g.out = p.own.panel_hidden.bytes();
      if (panel + 1 < end) fetch_behind(g, norm.x, x_stride_, columns_, 0, fetched = tokens_ / 2);
      kernels.gemm(g);
      last = token_product(block.tokens2, p.own.panel_hidden.bytes(), tokens_);
    } else {
      last = token_product(block.tokens1, p.own.panel.bytes(), tokens_);
      last.form = Form::table;
      last.column_scale = block.column_scale.floats() + first;
      last.shift = block.shift.floats() + first * tokens_, last.shift_stride = columns_;
    }
    last.output = Output::add;
    last.x = p.image.x.floats() + first, last.x_stride = x_stride_;
    if (panel + 1 < end) fetch_behind(last, norm.x, x_stride_, columns_, fetched, tokens_);
    kernels.gemm(last);
  }
}

void Network::mix_channels(const Block& block, const NormWeights& next, const Piece& p) const {
  const Kind& kind = *block.over_channels;
  const Kernels& kernels = *kind.kernels;
  float* x = p.image.x.floats();
  each_row_block(kind, p, [&](int begin, int end) {
    statistics(block.norm2, x, x_stride_, width_, p.image, begin, end);
    kernels.norm_rows(norm_of(block.norm2, p.image, x, x_stride_, width_, begin, end), p.own.rows.bytes(),
                      kind.rows_stride);
    Gemm g = channel_product(block.channels1, p.own.rows.bytes(), kind.rows_stride, end - begin);
    g.output = Output::rows, g.gelu = int(block.header.gelu);
    if (block.channels_table.size()) {
      g.form = Form::index, g.reach = block.channels1.reach;
      set_table(g, block.channels_table);
    }
    g.out = p.own.hidden.bytes(), g.out_stride = kind.hidden_stride;
    kernels.gemm(g);
    Gemm last = channel_product(block.channels2, p.own.hidden.bytes(), kind.hidden_stride, end - begin);
    last.output = Output::add;
    last.x = x + begin * x_stride_, last.x_stride = x_stride_;
    kernels.gemm(last);
    statistics(next, x, x_stride_, width_, p.image, begin, end);
  });
}

// gMLP: channels out to the half that becomes the gate; for a panel at a time the gate over tokens and channels out to
// the half that it gates, which no memory far away ever holds; channels back.
void Network::gated_block(const Block& block, const NormWeights& next, const Piece& p) const {
  const Kind& kind = *block.over_channels;
  const Kernels& kernels = *kind.kernels;
  const int half = int(block.header.channel_hidden / 2), panels = int(round_up(half, columns_)) / columns_;
  float *x = p.image.x.floats(), *gate = p.image.gate.floats();
  const auto normed = [&](int token) { return p.image.rows.bytes() + token * kind.rows_stride; };
  each_row_block(kind, p, [&](int begin, int end) {
    kernels.norm_rows(norm_of(block.norm1, p.image, x, x_stride_, width_, begin, end), normed(begin),
                      kind.rows_stride);
    Gemm g = channel_product(block.gate1, normed(begin), kind.rows_stride, end - begin);
    g.output = Output::gelu, g.gelu = int(block.header.gelu);
    g.x = gate + begin * half_stride_, g.x_stride = half_stride_;
    kernels.gemm(g);
    statistics(block.norm2, gate, half_stride_, half, p.image, begin, end);
  });
  p.barrier.wait();
  Norm norm = norm_of(block.norm2, p.image, gate, half_stride_, half, 0, tokens_);
  const int end = begin_of(panels, p.thread + 1, p.threads);
  for (int panel = begin_of(panels, p.thread, p.threads); panel < end; ++panel) {
    const int64_t first = int64_t(panel) * columns_;
    norm.x = gate + first;
    norm.scale = block.norm2.scale.floats() + first;
    norm.shift = block.norm2.shift.floats() + first;
    kernels.norm_panel(norm, p.own.panel.bytes());
    Gemm carried = panel_of(channel_product(block.channels1, normed(0), kind.rows_stride, tokens_), panel, columns_);
    carried.output = Output::gelu, carried.gelu = int(block.header.gelu);
    carried.x = p.own.carrier.floats(), carried.x_stride = columns_;
    if (panel + 1 < end) fetch_behind(carried, norm.x, half_stride_, columns_, 0, tokens_);
    kernels.gemm(carried);
    Gemm g = token_product(block.tokens1, p.own.panel.bytes(), tokens_);
    if (block.column_scale.size()) {
      g.form = Form::rows_columns;
      g.column_scale = block.column_scale.floats() + first;
      g.out_shift = block.header.gate_shift;
    }
    g.output = Output::rows;
    g.gate = p.own.carrier.floats(), g.gate_stride = columns_;
    g.out = p.image.gated.bytes() + first * bytes_of(kernels.row), g.out_stride = kind.gated_stride;
    kernels.gemm(g);
  }
  p.barrier.wait();
  each_row_block(kind, p, [&](int begin, int end) {
    Gemm g = channel_product(block.channels2, p.image.gated.bytes() + begin * kind.gated_stride, kind.gated_stride,
                             end - begin);
    g.output = Output::add;
    g.x = x + begin * x_stride_, g.x_stride = x_stride_;
    kernels.gemm(g);
    statistics(next, x, x_stride_, width_, p.image, begin, end);
  });
}

}  // namespace allmlp
