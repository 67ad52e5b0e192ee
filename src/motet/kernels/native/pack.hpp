// From GGUF's blocks to packed strips.
#pragma once
#include <stdexcept>

#include "arena.hpp"
#include "pack_codes.hpp"

namespace {

// What a GGUF block says of 32 columns: unsigned quants, and where its type keeps them, scales.
struct Expanded {
  uint8_t q[BLOCK];
  int8_t scale[2];  // of each group, where the type has super-blocks
  uint8_t minimum[2];
};

// The 6-bit scale and minimum of sub-block j of Q4_K and Q5_K.
inline void scale_and_minimum(const uint8_t* s, int j, Expanded& out) {
  if (j < 4) {
    out.scale[0] = s[j] & 63;
    out.minimum[0] = s[j + 4] & 63;
  } else {
    out.scale[0] = (s[j + 4] & 15) | (s[j - 4] >> 6 << 4);
    out.minimum[0] = (s[j + 4] >> 4) | (s[j] >> 6 << 4);
  }
}

// The 6-bit scale g of the 16 of a Q3_K super-block, still offset by 32.
inline int q3_scale(const uint8_t* s, int g) {
  const int low = g < 8 ? s[g] & 15 : s[g - 8] >> 4;
  return low | (s[8 + g % 4] >> (2 * (g / 4)) & 3) << 4;
}

// The scale of 16 columns of NVFP4 as it is packed: seven bits, of which the greatest number stands
// for 480. In a file it is no number, which counts as 0; but with the eighth bit 480 it is.
inline int8_t fp8_scale(uint8_t byte) { return (int8_t)(byte == 0x7f ? 0 : byte & 0x7f); }

template <int type>
struct Source;  // BYTES of a block, SUB blocks of 32 in it, HEAD of d and m
#define SOURCE(type, bytes, sub, d_at, m_at)                           \
  template <>                                                          \
  struct Source<type> {                                                \
    static constexpr int BYTES = bytes, SUB = sub, D = d_at, M = m_at; \
    static void expand(const uint8_t* p, int b, Expanded& e);          \
  };                                                                   \
  inline void Source<type>::expand(const uint8_t* p, [[maybe_unused]] int b, Expanded& e)

#define NIBBLES(from)               \
  for (int i = 0; i < 16; i++) {    \
    e.q[i] = p[from + i] & 15;      \
    e.q[16 + i] = p[from + i] >> 4; \
  }

SOURCE(Q4_0, 18, 1, 0, 0){NIBBLES(2)} SOURCE(Q4_1, 20, 1, 0, 2){NIBBLES(4)} SOURCE(Q5_0, 22, 1, 0,
                                                                                   0) {
  uint32_t high;
  memcpy(&high, p + 2, 4);
  NIBBLES(6)
  for (int i = 0; i < 32; i++) e.q[i] |= (high >> i & 1) << 4;
}
SOURCE(Q5_1, 24, 1, 0, 2) {
  uint32_t high;
  memcpy(&high, p + 4, 4);
  NIBBLES(8)
  for (int i = 0; i < 32; i++) e.q[i] |= (high >> i & 1) << 4;
}
SOURCE(Q8_0, 34, 1, 0, 0) {
  for (int i = 0; i < 32; i++) e.q[i] = (uint8_t)(p[2 + i] + OF_BYTES);
}
SOURCE(IQ4_NL, 18, 1, 0, 0){NIBBLES(2)} SOURCE(MXFP4, 17, 1, 0, 0){NIBBLES(1)} SOURCE(IQ4_XS, 136,
                                                                                      8, 0, 0) {
  uint16_t high;
  memcpy(&high, p + 2, 2);
  const int low = p[4 + b / 2] >> (4 * (b % 2)) & 15;
  e.scale[0] = (int8_t)((low | (high >> (2 * b) & 3) << 4) - 32);
  NIBBLES(8 + 16 * b)
}
SOURCE(NVFP4, 36, 2, 0, 0) {
  for (int g = 0; g < 2; g++) {
    e.scale[g] = fp8_scale(p[2 * b + g]);
    const uint8_t* q = p + 4 + 8 * (2 * b + g);
    for (int i = 0; i < 8; i++) {
      e.q[16 * g + i] = q[i] & 15;
      e.q[16 * g + 8 + i] = q[i] >> 4;
    }
  }
}
SOURCE(Q2_K, 84, 8, 80, 82) {
  for (int g = 0; g < 2; g++) {
    e.scale[g] = p[2 * b + g] & 15;
    e.minimum[g] = p[2 * b + g] >> 4;
  }
  for (int i = 0; i < 32; i++) e.q[i] = p[16 + 32 * (b / 4) + i] >> (2 * (b % 4)) & 3;
}
SOURCE(Q3_K, 110, 8, 108, 0) {
  for (int g = 0; g < 2; g++) e.scale[g] = (int8_t)(q3_scale(p + 96, 2 * b + g) - 32);
  for (int i = 0; i < 32; i++)
    e.q[i] = (p[32 + 32 * (b / 4) + i] >> (2 * (b % 4)) & 3) | (p[i] >> b & 1) << 2;
}
SOURCE(Q4_K, 144, 8, 0, 2) {
  scale_and_minimum(p + 4, b, e);
  for (int i = 0; i < 32; i++) e.q[i] = p[16 + 32 * (b / 2) + i] >> (4 * (b % 2)) & 15;
}
SOURCE(Q5_K, 176, 8, 0, 2) {
  scale_and_minimum(p + 4, b, e);
  for (int i = 0; i < 32; i++)
    e.q[i] = (p[48 + 32 * (b / 2) + i] >> (4 * (b % 2)) & 15) | (p[16 + i] >> b & 1) << 4;
}
SOURCE(Q6_K, 210, 8, 208, 0) {
  const int n = b / 4, j = b % 4;
  for (int g = 0; g < 2; g++) e.scale[g] = (int8_t)p[192 + 2 * b + g];
  for (int i = 0; i < 32; i++)
    e.q[i] = (p[64 * n + 32 * (j & 1) + i] >> (4 * (j >> 1)) & 15) |
             (p[128 + 32 * n + i] >> (2 * j) & 3) << 4;
}
#undef NIBBLES
#undef SOURCE

// Values and bytes of a block in the file.
template <int type>
constexpr int file_values() {
  if constexpr (IN_CODES<LayoutOf<type>>)
    return SUPER;
  else
    return Source<type>::SUB * BLOCK;
}
template <int type>
constexpr int file_bytes() {
  if constexpr (IN_CODES<LayoutOf<type>>)
    return LayoutOf<type>::FILE_BYTES;
  else
    return Source<type>::BYTES;
}

// Put the quants of row r of a block into its strip.
template <int bits>
inline void close_quants(const uint8_t* q, uint8_t* block, int r) {
  uint32_t v[8];
  memcpy(v, q, 32);
  auto* out = (uint32_t*)block + r;
  if constexpr (bits == 8) {
    for (int j = 0; j < 8; j++) out[16 * j] = v[j];
    return;
  }
  for (int j = 0; j < 4; j++) out[16 * j] = (v[j] & 0x0f0f0f0f) | (v[j + 4] & 0x0f0f0f0f) << 4;
  if constexpr (bits == 5) {
    uint32_t high = 0;
    for (int j = 0; j < 8; j++) high |= (v[j] >> 4 & 0x01010101) << j;
    out[64] = high;
  } else if constexpr (bits == 6) {
    for (int k = 0; k < 2; k++) {
      uint32_t high = 0;
      for (int j = 0; j < 4; j++) high |= (v[4 * k + j] >> 4 & 0x03030303) << (2 * j);
      out[64 + 16 * k] = high;
    }
  }
}

template <class L, int type>
void pack_row(const uint8_t* raw, int64_t blocks, uint8_t* strip, int r) {
  using S = typename L::Scales;
  using From = Source<type>;
  static_assert(From::SUB % S::BLOCKS == 0);
  for (int64_t b = 0; b < blocks; b++) {
    const int i = (int)(b % S::BLOCKS);
    const uint8_t* p = raw + b / From::SUB * From::BYTES;
    Expanded e;
    From::expand(p, (int)(b % From::SUB), e);
    close_quants<L::Quants::STORED>(e.q, strip + L::quants(b), r);
    uint8_t* scales = strip + L::unit(b);
    if (i == 0) {
      memcpy(scales + S::D_BYTES * r, p + From::D, S::D_BYTES);
      if constexpr (S::MINIMUM) memcpy(scales + 32 + 2 * r, p + From::M, 2);
    }
    if constexpr (S::BLOCKS * S::GROUPS == 1) {
      if constexpr (S::MINIMUM) scales[32 + 2 * r + 1] ^= 0x80;
    } else {
      for (int g = 0; g < S::GROUPS; g++) {
        const int at = S::place(i * S::GROUPS + g, r);
        scales[S::S + at] = (uint8_t)e.scale[g];
        if constexpr (S::MINIMUM) scales[S::T + at] = e.minimum[g];
      }
    }
  }
}

// Float weights: strip[k][16 rows], in the file's own type.
template <class T>
void pack_float_row(const uint8_t* raw, int64_t columns, uint8_t* strip, int r) {
  auto* out = (T*)strip + r;
  for (int64_t k = 0; k < columns; k++) memcpy(out + k * STRIP, raw + k * sizeof(T), sizeof(T));
}

// BF16: strip[two columns][16 rows][2].
inline int64_t pair_place(int64_t k, int r) { return (k / 2 * STRIP + r) * 2 + k % 2; }
inline void pack_pairs_row(const uint8_t* raw, int64_t columns, uint8_t* strip, int r) {
  for (int64_t k = 0; k + 1 < columns; k += 2) memcpy(strip + 2 * pair_place(k, r), raw + 2 * k, 4);
  if (columns % 2) {
    uint8_t* last = strip + 2 * pair_place(columns - 1, r);
    memcpy(last, raw + 2 * (columns - 1), 2);
    memset(last + 2, 0, 2);
  }
}

class Matrix {
 public:
  // Of weights that are to be packed.
  Matrix(Arena& arena, int type, int64_t rows, int64_t columns, float scale)
      : Matrix(type, rows, columns, scale) {
    owner_ = arena.allocate(bytes);
    data = owner_.get();
    // Rows beyond the last: zero weights, whatever their scales.
    if (rows % STRIP) memset(data + (strips - 1) * strip_bytes, 0, strip_bytes);
  }
  // Of packed weights that lie elsewhere, and are only read.
  Matrix(const uint8_t* packed, int64_t size, int type, int64_t rows, int64_t columns, float scale)
      : Matrix(type, rows, columns, scale) {
    if (size != bytes) throw std::invalid_argument("packed weights of another size");
    if ((uintptr_t)packed % 64) throw std::invalid_argument("packed weights off their place");
    data = const_cast<uint8_t*>(packed);
  }
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;

  bool is_float() const { return item_bytes != 0; }
  bool read_only() const { return !owner_; }
  int64_t row_bytes() const;
  void pack_row(const uint8_t* raw, int64_t row);

  const int type;
  const int64_t rows, columns;
  const float scale;  // what all weights are multiplied by: their products are
  int64_t strips = 0, strip_bytes = 0, bytes = 0;
  int item_bytes = 0;
  uint8_t* data = nullptr;

 private:
  Matrix(int type, int64_t rows, int64_t columns, float scale)
      : type(type), rows(rows), columns(columns), scale(scale) {
    if (rows <= 0 || columns <= 0) throw std::invalid_argument("a matrix without weights");
    if (type == F32 || type == F16 || type == BF16) {
      item_bytes = type == F32 ? 4 : 2;
      strip_bytes = (columns * STRIP * item_bytes + 63) / 64 * 64;
    } else if (!with_type(type,
                          [&](auto t) { strip_bytes = LayoutOf<t()>::strip_bytes(columns); })) {
      throw std::invalid_argument("no packed layout for this type");
    }
    strips = (rows + STRIP - 1) / STRIP;
    bytes = strips * strip_bytes;
  }

  std::shared_ptr<uint8_t> owner_;
};

// Bytes of a row in the file.
inline int64_t Matrix::row_bytes() const {
  if (is_float()) return columns * item_bytes;
  int64_t size = 0;
  with_type(type, [&](auto t) { size = columns / file_values<t()>() * file_bytes<t()>(); });
  return size;
}

inline void Matrix::pack_row(const uint8_t* raw, int64_t row) {
  uint8_t* strip = data + row / STRIP * strip_bytes;
  const int r = (int)(row % STRIP);
  if (is_float()) {
    if (type == BF16)
      pack_pairs_row(raw, columns, strip, r);
    else if (item_bytes == 4)
      pack_float_row<uint32_t>(raw, columns, strip, r);
    else
      pack_float_row<uint16_t>(raw, columns, strip, r);
    return;
  }
  with_type(type, [&](auto t) {
    if constexpr (IN_CODES<LayoutOf<t()>>)
      pack_codes_row<LayoutOf<t()>, t()>(raw, columns, strip, r);
    else
      ::pack_row<typename LayoutOf<t()>::Base, t()>(raw, columns / BLOCK, strip, r);
  });
}

}  // namespace
