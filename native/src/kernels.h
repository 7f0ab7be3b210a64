// What a kernel is. A row of the table (table.cpp) is a `Kernels`: for one instruction set and one precision, the
// functions below and the shape of their operands. Everything else in the engine is plain C++.
//
// A product has two operands. Rows: row-major, `stride` bytes apart; each value is broadcast to all lanes. Panels:
// `columns` columns at a time, packed [k / group][columns][group], `group` consecutive values of k in one 32-bit lane.
// In channel mixing the tokens are the rows and the weights the panels; in token mixing the weights are the rows and
// the tokens, as they lie, the panels: no transposition anywhere.
#pragma once

#include <cstdint>

namespace allmlp {

enum class Precision : uint32_t { fp32 = 0, bf16 = 1, int8 = 2 };

// How a kernel stores its operands. On instruction sets without the narrow product the operands are stored wider:
// bf16 as floats that have been rounded to bf16, int8 as 16-bit integers. The products are the same.
enum class Element : uint32_t { f32, f32_of_bf16, bf16, i8, i16 };

constexpr int bytes_of(Element element) {
  return element == Element::i8 ? 1 : element == Element::bf16 || element == Element::i16 ? 2 : 4;
}

// What a product does with its sums before anything else. Vector kernels have what networks need: `plain` with every
// output and `table` with `add`; in int8 `plain` with `store`, `columns` with `store`, `add` and `gelu`, `rows` with `add`,
// `rows_columns` with `panels` and gated `rows`, `table` with `add`, `index` with `rows`.
enum class Form {
  plain,         // v = acc                                          (the bias is where the accumulators start)
  columns,       // v = acc * column_scale[c] + column_shift[c]      (int8, channel mixing)
  rows,          // v = acc * row_scale[r] + row_shift[r]            (int8, second product of token mixing)
  rows_columns,  // v = acc * row_scale[r] * column_scale[c] + row_shift[r]       (int8, first product of token mixing)
  table,         // v = acc * row_scale[r] * column_scale[c] + shift[r][c]        (ResMLP; row_scale may be null)
  index,         // v = acc * column_scale[c] + column_shift[c] - kWholeNumbers, rounded once, to a whole number (int8,
                 //     the first product of channel mixing: indices.h)
};

// Floats of which this is a part have no fraction; kFloatBits are the bits of 2^23, which has none either.
constexpr float kWholeNumbers = 3 << 22;
constexpr int32_t kFloatBits = 0x4b000000;

// Of all that Form::index can give: anything below 2^22, or what 16 bits hold, or that and `acc` as floats' bits.
enum class Reach { any, words, floats };

enum class Output {
  store,     // x[r][c] = v
  add,       // x[r][c] += v: the residual
  gelu,      // x[r][c] = GELU(v), in float
  rows,      // GELU(v), or v * gate[r][c], as the row operand of the next product
  panels,    // GELU(v) as the panel operand of the next product: row r is its k
};

// Entries of a table, of which all behind the last one of its own are as that is, or each is one more than the one before,
// up to 255: the table `goes_on`.
constexpr int kEntries = 512, kOwnEntries = 256;
inline bool goes_on(const uint8_t* table) { return table[kOwnEntries] != table[kOwnEntries - 1]; }

struct Gemm {
  const void* a;         // row operand
  int64_t a_stride;      // bytes from row to row
  const void* b;         // panel operand
  int64_t panel_stride;  // bytes from panel to panel
  int rows, panels;
  int groups;                      // length of the sums, in groups
  bool weights_are_rows;           // int8: rows are signed, panels unsigned; else the other way round
  const void* row_start = nullptr;     // float or int32, one per row or one per column: where accumulators start
  const void* column_start = nullptr;  // (both null: 0)
  Form form = Form::plain;
  const float *row_scale = nullptr, *row_shift = nullptr, *column_scale = nullptr, *column_shift = nullptr;
  const float* shift = nullptr;  // Form::table
  int64_t shift_stride = 0;      // floats
  Output output = Output::store;
  int gelu = 0;                      // 0 erf, 1 tanh
  Reach reach = Reach::any;          // Form::index
  const uint8_t* table = nullptr;    // int8: round(v), cut to 0..511, goes through these; an int32 must hold v
  bool goes_on = false;              // as the table
  const float* gate = nullptr;       // Output::rows: multiply instead of GELU; in int8 then add out_shift
  int64_t gate_stride = 0;           // floats
  float out_shift = 0;
  float* x = nullptr;    // Output::store, add, gelu
  int64_t x_stride = 0;  // floats
  void* out = nullptr;   // Output::rows, panels
  int64_t out_stride = 0;  // bytes from row to row, or from panel to panel
  // A panel of floats that is needed next: fetched meanwhile. Half of it may lie in another processor's cache.
  const float* next = nullptr;
  int64_t next_stride = 0;  // floats
  int next_rows = 0;
};

// Statistics of LayerNorm, one pair per token: y = (x - mean) * rstd. "identity" has mean 0 and rstd 1.
struct Norm {
  const float* x;
  int64_t x_stride;  // floats
  const float *mean, *rstd;
  const float *scale, *shift;  // per channel, over whole panels: operand = y * scale + shift (int8: quantisation too)
  int channels;                // rounded up to whole panels
  int tokens;
};

struct Kernels {
  const char* level;
  Precision precision;
  uint32_t features;  // of cpu.h: all must be there
  Element row, panel;
  int rows, columns, group;  // of a tile
  void (*gemm)(const Gemm&);
  void (*statistics)(const float* x, int64_t x_stride, int tokens, int channels, float epsilon, float* mean,
                     float* rstd);
  void (*norm_rows)(const Norm&, void* out, int64_t stride);
  void (*norm_panel)(const Norm&, void* out);  // one panel: `x`, `scale`, `shift` point at its first channel
  // A run of image bytes as operand: the byte - 128 in float and bf16, the byte in int8.
  void (*bytes)(const uint8_t* from, int count, void* out);
  // Means over tokens of (x - mean) * rstd for one panel of channels, times scale plus shift.
  void (*pool)(const Norm&, float* out);
  // `iterations` times rows * columns * group multiply-adds in registers: what `peak` measures.
  void (*probe)(int64_t iterations);
};

}  // namespace allmlp
