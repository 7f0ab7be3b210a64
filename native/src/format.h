// The model file, version 5. Little-endian. Everything here comes from outside and is checked before it is used.
//
//   Header | depth x BlockHeader | tensors x TensorEntry | … the tensors, anywhere behind | checksum
//
// The tensors stand in one order, which network.cpp reads; of each, the entry says where it is, and its size must be
// the one that follows from the headers. `about` is JSON for people and for Python: preprocessing, class names, origin.
//
// The last four bytes are the CRC-32 (zlib's) of all before. It is compared when the last tensor was read, so until then
// nothing here may be believed. Versions 1 to 4 were never released, and are not read: the first
// three had no checksum, the fourth tables of 256 entries.
#pragma once

#include <cstdint>

#include "kernels.h"
#include "source.h"

namespace allmlp {

constexpr char kMagic[8] = {'A', 'L', 'L', 'M', 'L', 'P', 'N', '\n'};
constexpr uint32_t kVersion = 5;
constexpr uint32_t kWhole = 0x2144df1c;  // the CRC-32 of whatever has its own at its end

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "neither files nor operands are turned round");

enum class Family : uint32_t { mixer = 0, resmlp = 1, gmlp = 2 };
enum class NormKind : uint32_t { identity = 0, layernorm = 1 };

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t precision;  // of the stem
  uint32_t image_height, image_width, patch_height, patch_width;
  uint32_t width, depth, classes, tensors;
  uint32_t norm;       // NormKind of the last norm
  float norm_epsilon;
  uint64_t about_offset, about_bytes;

  int64_t tokens() const { return int64_t(image_height / patch_height) * (image_width / patch_width); }
};
static_assert(sizeof(Header) == 72);

struct BlockHeader {
  uint32_t family;
  uint32_t token_hidden;    // mixer
  uint32_t channel_hidden;  // gMLP: of both halves
  uint32_t gelu;            // 0 erf, 1 tanh
  uint32_t norm1, norm2;    // NormKind; gMLP: of the block, of the gate
  float epsilon1, epsilon2;
  uint32_t zero_points[4];  // int8, of the operands: tokens in, token hidden, channels in, channel hidden
  float gate_scale, gate_shift;  // gMLP, int8: the gated values as an operand, u = v * scale + shift
  // Of the layers over tokens and over channels; of gMLP, which is one layer, the same twice.
  uint32_t token_precision, channel_precision;
};
static_assert(sizeof(BlockHeader) == 64);

struct TensorEntry {
  uint64_t offset, bytes;
};

}  // namespace allmlp
