#include "access.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <stdexcept>
#include <vector>

#include "buffer.h"
#include "crc.h"
#include "indices.h"
#include "operand.h"
#include "table.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace allmlp {

FloatArray new_floats(std::initializer_list<size_t> shape) {
  size_t count = 1;
  for (size_t side : shape) count *= side;
  float* data = new float[count ? count : 1];
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  return FloatArray(data, shape, owner);
}

namespace {

using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Vector = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Where number k of row or column `index` lies.
struct Packing {
  const Kernels& kernels;
  int64_t stride;  // of rows, or of panels
  int64_t row(int64_t r, int64_t k) const { return r * stride + k * bytes_of(kernels.row); }
  int64_t panel(int64_t c, int64_t k) const {
    const int columns = kernels.columns, group = kernels.group;
    return c / columns * stride + ((k / group * columns + c % columns) * group + k % group) * bytes_of(kernels.panel);
  }
};

std::vector<float> padded(const std::optional<Vector>& v, size_t count) {
  std::vector<float> result(count);
  if (v) {
    if (v->shape(0) > count) throw std::invalid_argument("a vector is too long");
    std::copy(v->data(), v->data() + v->shape(0), result.begin());
  }
  return result;
}

Buffer padded(const Matrix& m, int64_t rows, int64_t columns) {
  Buffer result(rows * columns * 4);
  for (size_t r = 0; r < m.shape(0); ++r)
    std::memcpy(result.floats() + r * columns, m.data() + r * m.shape(1), m.shape(1) * 4);
  return result;
}

template <class Name>
Name one_of(const std::string& name, std::initializer_list<const char*> names) {
  int i = 0;
  for (const char* known : names) {
    if (name == known) return static_cast<Name>(i);
    ++i;
  }
  throw std::invalid_argument("unknown: " + name);
}

// a (M, K) times b (K, N): the kernel's result as floats, whatever its output. `x` is what "add" adds to.
FloatArray gemm(const std::string& level, const std::string& precision, Matrix a, Matrix b, bool weights_are_rows,
                const std::string& form, const std::string& output, std::optional<Vector> row_start,
                std::optional<Vector> column_start, std::optional<Vector> row_scale, std::optional<Vector> row_shift,
                std::optional<Vector> column_scale, std::optional<Vector> column_shift, std::optional<Matrix> shift,
                int gelu, std::optional<Vector> table, std::optional<Matrix> gate, float out_shift,
                std::optional<Matrix> x) {
  const Kernels& kernels = find_kernels(level, precision_of(precision));
  const int64_t rows = a.shape(0), inner = a.shape(1), columns = b.shape(1);
  if (int64_t(b.shape(0)) != inner) throw std::invalid_argument("a and b don't fit");
  const int group = kernels.group;
  const int64_t all_columns = round_up(columns, kernels.columns), panels = all_columns / kernels.columns;
  Gemm g{};
  g.output = one_of<Output>(output, {"store", "add", "gelu", "rows", "panels"});
  g.form = one_of<Form>(form, {"plain", "columns", "rows", "rows_columns", "table", "index"});
  g.rows = int(g.output == Output::panels ? round_up(rows, group) : rows);
  g.panels = int(panels), g.groups = int(round_up(inner, group) / group);
  g.weights_are_rows = weights_are_rows;

  const Packing rows_of{kernels, row_stride(g.groups * group * bytes_of(kernels.row))};
  const Packing panels_of{kernels, int64_t(g.groups) * group * kernels.columns * bytes_of(kernels.panel)};
  Buffer packed_a(g.rows * rows_of.stride), packed_b(panels * panels_of.stride);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < inner; ++k) put(kernels.row, packed_a.bytes() + rows_of.row(r, k), a.data()[r * inner + k]);
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t k = 0; k < inner; ++k)
      put(kernels.panel, packed_b.bytes() + panels_of.panel(c, k), b.data()[k * columns + c]);
  g.a = packed_a.bytes(), g.a_stride = rows_of.stride;
  g.b = packed_b.bytes(), g.panel_stride = panels_of.stride;

  const auto starts = [&](const std::optional<Vector>& v, int64_t count) {
    std::vector<float> floats = padded(v, count);
    if (kernels.precision == Precision::int8)
      for (float& value : floats) {
        const int32_t whole = static_cast<int32_t>(value);
        std::memcpy(&value, &whole, 4);
      }
    return floats;
  };
  const std::vector<float> row_starts = starts(row_start, g.rows), column_starts = starts(column_start, all_columns);
  if (row_start) g.row_start = row_starts.data();
  if (column_start) g.column_start = column_starts.data();
  const std::vector<float> rs = padded(row_scale, g.rows), rh = padded(row_shift, g.rows);
  std::vector<float> cs = padded(column_scale, all_columns), ch = padded(column_shift, all_columns);
  g.row_scale = row_scale ? rs.data() : nullptr, g.row_shift = rh.data();
  std::vector<int32_t> whole;
  if (g.form == Form::index) {
    whole.resize(all_columns);
    std::memcpy(whole.data(), column_starts.data(), whole.size() * 4);
    const std::vector<int64_t> largest = largest_sums(b.data(), inner, columns, whole.data());
    g.reach = to_indices(whole.data(), cs.data(), ch.data(), largest.data(), columns, all_columns);
    g.column_start = whole.data();
  }
  g.column_scale = cs.data(), g.column_shift = ch.data();
  Buffer shifts, gates;
  if (shift) shifts = padded(*shift, rows, all_columns);
  if (gate) gates = padded(*gate, rows, all_columns);
  g.shift = shifts.floats(), g.shift_stride = all_columns;
  g.gate = gates.floats(), g.gate_stride = all_columns, g.out_shift = out_shift;
  g.gelu = gelu;
  uint8_t entries[kEntries] = {};
  if (table) {
    for (size_t i = 0; i < kEntries && i < table->shape(0); ++i) entries[i] = static_cast<uint8_t>(table->data()[i]);
    g.table = entries, g.goes_on = goes_on(entries);
  }

  Buffer result(g.rows * all_columns * 4);
  if (x) result = padded(*x, g.rows, all_columns);
  g.x = result.floats(), g.x_stride = all_columns;
  const Packing out_rows{kernels, row_stride(all_columns * bytes_of(kernels.row))};
  const Packing out_panels{kernels, int64_t(g.rows) * kernels.columns * bytes_of(kernels.panel)};
  const bool to_rows = g.output == Output::rows, to_panels = g.output == Output::panels;
  Buffer out(to_rows ? g.rows * out_rows.stride : panels * out_panels.stride);
  g.out = out.bytes(), g.out_stride = to_rows ? out_rows.stride : out_panels.stride;
  kernels.gemm(g);

  FloatArray values = new_floats({size_t(rows), size_t(columns)});
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      values.data()[r * columns + c] = to_rows     ? get(kernels.row, out.bytes() + out_rows.row(r, c))
                                       : to_panels ? get(kernels.panel, out.bytes() + out_panels.panel(c, r))
                                                   : result.floats()[r * all_columns + c];
  return values;
}

// (T, C) normalised and written as an operand, read back as floats; without epsilon, no statistics are taken.
FloatArray norm(const std::string& level, const std::string& precision, Matrix x, std::optional<float> epsilon,
                Vector scale, Vector shift, bool as_panels) {
  const Kernels& kernels = find_kernels(level, precision_of(precision));
  const int64_t tokens = x.shape(0), channels = x.shape(1), all = round_up(channels, kernels.columns);
  if (int64_t(scale.shape(0)) != channels || int64_t(shift.shape(0)) != channels)
    throw std::invalid_argument("scale and shift need one number per channel");
  const Buffer data = padded(x, tokens, all);
  std::vector<float> mean(tokens), rstd(tokens, 1.f);
  if (epsilon)
    kernels.statistics(data.floats(), all, int(tokens), int(channels), *epsilon, mean.data(), rstd.data());
  const std::vector<float> scales = padded(scale, all), shifts = padded(shift, all);
  Norm n{data.floats(), all, mean.data(), rstd.data(), scales.data(), shifts.data(), int(all), int(tokens)};
  const int64_t whole = round_up(tokens, kernels.group);
  const Packing rows{kernels, row_stride(all * bytes_of(kernels.row))};
  const Packing panels{kernels, whole * kernels.columns * bytes_of(kernels.panel)};
  Buffer out(as_panels ? all / kernels.columns * panels.stride : tokens * rows.stride);
  if (as_panels) {
    for (int64_t c = 0; c < all; c += kernels.columns) {
      n.x = data.floats() + c, n.scale = scales.data() + c, n.shift = shifts.data() + c;
      kernels.norm_panel(n, out.bytes() + c / kernels.columns * panels.stride);
    }
  } else {
    kernels.norm_rows(n, out.bytes(), rows.stride);
  }
  FloatArray values = new_floats({size_t(tokens), size_t(channels)});
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t c = 0; c < channels; ++c)
      values.data()[t * channels + c] = as_panels ? get(kernels.panel, out.bytes() + panels.panel(c, t))
                                                  : get(kernels.row, out.bytes() + rows.row(t, c));
  return values;
}

FloatArray pool(const std::string& level, const std::string& precision, Matrix x, Vector mean, Vector rstd) {
  const Kernels& kernels = find_kernels(level, precision_of(precision));
  const int64_t tokens = x.shape(0), channels = x.shape(1), all = round_up(channels, kernels.columns);
  const Buffer data = padded(x, tokens, all);
  const std::vector<float> ones(all, 1.f), zeros(all), means = padded(mean, tokens), rstds = padded(rstd, tokens);
  std::vector<float> out(all);
  for (int64_t c = 0; c < all; c += kernels.columns)
    kernels.pool({data.floats() + c, all, means.data(), rstds.data(), ones.data(), zeros.data(), kernels.columns,
                  int(tokens)}, out.data() + c);
  FloatArray values = new_floats({size_t(channels)});
  std::copy(out.begin(), out.begin() + channels, values.data());
  return values;
}

FloatArray bytes(const std::string& level, const std::string& precision,
                 nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu> from) {
  const Kernels& kernels = find_kernels(level, precision_of(precision));
  Buffer out(int64_t(from.size()) * 4);
  kernels.bytes(from.data(), int(from.size()), out.bytes());
  FloatArray values = new_floats({from.size()});
  for (size_t i = 0; i < from.size(); ++i) values.data()[i] = get(kernels.row, out.bytes() + i * bytes_of(kernels.row));
  return values;
}

}  // namespace

void bind_access(nb::module_& m) {
  m.def("_gemm", &gemm, "level"_a, "precision"_a, "a"_a, "b"_a, nb::kw_only(), "weights_are_rows"_a = false,
        "form"_a = "plain", "output"_a = "store", "row_start"_a = nb::none(), "column_start"_a = nb::none(),
        "row_scale"_a = nb::none(), "row_shift"_a = nb::none(), "column_scale"_a = nb::none(),
        "column_shift"_a = nb::none(), "shift"_a = nb::none(), "gelu"_a = 0, "table"_a = nb::none(),
        "gate"_a = nb::none(), "out_shift"_a = 0.f, "x"_a = nb::none());
  m.def("_norm", &norm, "level"_a, "precision"_a, "x"_a, "epsilon"_a.none(), "scale"_a, "shift"_a, "as_panels"_a);
  m.def("_pool", &pool, "level"_a, "precision"_a, "x"_a, "mean"_a, "rstd"_a);
  m.def("_bytes", &bytes, "level"_a, "precision"_a, "from"_a);
  m.def("_crc32_part", [](nb::bytes data, uint64_t behind) { return crc32_part(data.c_str(), data.size(), behind); });
  m.def("_crc32_of", &crc32_of);
}

}  // namespace allmlp
