// CRC-32, that of zlib, PNG and Ethernet: the checksum at the end of a model file. It is made of parts in any order, as
// threads read them, while they are in the cache.
#pragma once

#include <cstdint>

namespace allmlp {

// What these bytes contribute to the checksum of a text in which `behind` more bytes follow them.
uint32_t crc32_part(const void* data, uint64_t bytes, uint64_t behind);
// The checksum of a text of so many bytes from all its parts, one xor the other. Parts of zeros may be left out.
uint32_t crc32_of(uint32_t parts, uint64_t bytes);

}  // namespace allmlp
