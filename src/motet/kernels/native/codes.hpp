// Weights that lie in codes, each of which stands for several: IQ1, IQ2, IQ3 and TQ. A kernel reads
// them opened, a super-block at a time, as bytes 64 + w in the layout Opened: so what is computed
// with them stands once, and for many rows of activations nothing is opened twice.
//
// A unit is a super-block of a strip. First float16 D (32 bytes). Then the 4-bit numbers n of its
// scales 2n + 1, half as many bytes as there are scales (none for TQ). Then 8 blocks of 32 columns:
// see the structs below.
#pragma once
#include "grids.hpp"
#include "layouts.hpp"
#include "permuting.hpp"

namespace {

// What the file says of 32 columns of a row: numbers in a list, of 4 or 8 weights each; a bit for
// each weight that is negative; scales; a bit for all or for each 8 weights that are shifted down.
struct Coded {
  uint16_t number[8];
  uint32_t negative;
  uint8_t scale[2], shifted;
};

// Opens a unit to one of the layout Opened.
using Opener = void (*)(const uint8_t* unit, uint8_t* out);

// A vector of what `of` gives for each lane: of(lane).
template <class Of>
INLINE i32x16 lanes(const Of& of) {
#if MOTET_AVX2
  i32x16 o;
  EACH
  {
    // By halves: inserting one lane after another waits for a single port.
    const auto one = [&](int i) { return _mm_cvtsi32_si128((int)of(r * WIDTH + i)); };
    const auto two = [&](int i) { return _mm_unpacklo_epi32(one(i), one(i + 1)); };
    const auto four = [&](int i) { return _mm_unpacklo_epi64(two(i), two(i + 2)); };
    o.v[r] = _mm256_set_m128i(four(4), four(0));
  }
  return o;
#else
  uint32_t each[LANES];
  for (int i = 0; i < LANES; i++) each[i] = of(i);
  return load_int(each);
#endif
}
// Of the 64 bits that `of` gives for each lane the lower and the upper half.
template <class Of>
INLINE void halved_lanes(const Of& of, i32x16& low, i32x16& high) {
#if MOTET_AVX2
  EACH
  {
    const auto two = [&](int a, int b, int c, int d) {
      const int at = r * WIDTH;
      return _mm256_castsi256_ps(_mm256_set_epi64x(of(at + d), of(at + c), of(at + b), of(at + a)));
    };
    const __m256 x = two(0, 1, 4, 5), y = two(2, 3, 6, 7);
    low.v[r] = _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0x88));
    high.v[r] = _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0xdd));
  }
#else
  low = lanes([&](int r) { return (uint32_t)of(r); });
  high = lanes([&](int r) { return (uint32_t)(of(r) >> 32); });
#endif
}

inline void put_nibble(uint8_t* p, int i, uint32_t value) {
  p[i / 2] = (uint8_t)((p[i / 2] & (0xf0 >> (4 * (i % 2)))) | (value & 15) << (4 * (i % 2)));
}
inline void put_bit(uint8_t* p, int i, int value) {
  p[i / 8] = (uint8_t)((p[i / 8] & ~(1 << (i % 8))) | (value & 1) << (i % 8));
}
// 64 numbers: their lowest 8 bits, and those above them, each of which has 8 bytes of its own.
template <int bits>
struct Numbers {
  INLINE Numbers(const uint8_t* low, const uint8_t* more) {
    i32x16 all = set_int(0);
    for (int i = 8; i < bits; i++)
      all = all | (bytes_of_bits(more + 8 * (i - 8)) & set_int(0x01010101 << (i - 8)));
    uint8_t high[64];
    store_int(high, all);
    for (int i = 0; i < 64; i++) all_of[i] = (uint16_t)(low[i] | high[i] << 8);
  }
  INLINE int operator[](int i) const { return all_of[i]; }
  alignas(64) uint16_t all_of[64];
};
template <>
struct Numbers<8> {
  INLINE Numbers(const uint8_t* low, const uint8_t*) : low(low) {}
  INLINE int operator[](int i) const { return low[i]; }
  const uint8_t* low;
};
template <int bits>
inline void put_high_bits(uint8_t* p, int place, int number) {
  for (int i = 8; i < bits; i++) put_bit(p + 8 * (i - 8), place, number >> i);
}

// Signs of a block: 8 words of 64 bits, that of column 4j + c of row r at bit 4r + c of word j.
constexpr int SIGN_BYTES = 64;
inline void put_signs(uint8_t* p, int r, uint32_t negative) {
  for (int j = 0; j < 8; j++) put_nibble(p + 8 * j, r, negative >> (4 * j));
}
// Bytes 64 + w, of which those whose bit is set become 64 − w.
INLINE i32x16 with_signs(i32x16 q, const uint8_t* signs) {
  const i32x16 all = bytes_of_bits(signs);
  return (q ^ (all & set_int(0x7f7f7f7f))) + (all & set_int(0x01010101));
}

inline constexpr uint8_t IQ2_VALUES[4] = {64 + 8, 64 + 25, 64 + 43};
inline constexpr uint8_t IQ3_XXS_VALUES[8] = {64 + 4,  64 + 12, 64 + 20, 64 + 28,
                                              64 + 36, 64 + 44, 64 + 52, 64 + 62};
inline constexpr uint8_t IQ3_S_VALUES[8] = {64 + 1, 64 + 3,  64 + 5,  64 + 7,
                                            64 + 9, 64 + 11, 64 + 13, 64 + 15};
inline constexpr uint8_t IQ1_VALUES[4] = {64 - 8, 64, 64 + 8};

// Four weights by a number in base 3, two bits for each.
inline constexpr auto BASE_3 = [] {
  std::array<uint16_t, 128> out{};
  for (int i = 0; i < 81; i++)
    out[i] = (uint16_t)(i % 3 | i / 3 % 3 << 2 | i / 9 % 3 << 4 | i / 27 << 6);
  return out;
}();

// A list of `count` weights in each entry, `bits` for each of them.
template <const auto& grid, int count, int bits, const auto& values>
struct List {
  static constexpr int SIZE = sizeof grid / 2;
  // By fours.
  static constexpr auto WEIGHTS = [] {
    std::array<uint32_t, SIZE * count / 4> out{};
    for (int i = 0; i < SIZE * count; i++) {
      const int one = grid[i / count] >> (bits * (i % count)) & ((1 << bits) - 1);
      out[i / 4] |= (uint32_t)values[one] << (i % 4 * 8);
    }
    return out;
  }();
  // The same for permutations of bytes: an entry's bytes, and what bits stand for, whatever is
  // above them.
  template <int half>
  static constexpr auto bytes() {
    std::array<uint8_t, SIZE> out{};
    for (int i = 0; i < SIZE; i++) out[i] = (uint8_t)(grid[i] >> (8 * half));
    return out;
  }
  alignas(64) static constexpr auto LOW = bytes<0>();
  alignas(64) static constexpr auto HIGH = bytes<1>();
  alignas(64) static constexpr auto VALUES = [] {
    std::array<uint8_t, 64> out{};
    for (int i = 0; i < 64; i++) out[i] = values[i % (1 << bits)];
    return out;
  }();
};

// IQ2. The number of columns 8g…8g+7 of row r: its low byte at 4r + g of 64 bytes, further bits at
// the same place; signs.
template <int bits, int groups, const auto& grid>
struct Eights {
  using Words = List<grid, 8, 2, IQ2_VALUES>;
  static constexpr int GROUPS = groups, PARTS = 8;  // of D
  static constexpr int MORE = 64, SIGNS = MORE + 8 * (bits - 8), BYTES = SIGNS + SIGN_BYTES;

  static void pack(const Coded& c, uint8_t* p, int r) {
    for (int g = 0; g < 4; g++) {
      p[4 * r + g] = (uint8_t)c.number[g];
      put_high_bits<bits>(p + MORE, 4 * r + g, c.number[g]);
    }
    put_signs(p + SIGNS, r, c.negative);
  }
  static void open(const uint8_t* p, uint8_t* out) {
    const Numbers<bits> number(p, p + MORE);
#pragma GCC unroll 4
    for (int g = 0; g < 4; g++) {
      i32x16 first, second;
      halved_lanes(
          [&](int r) {
            uint64_t eight;
            memcpy(&eight, Words::WEIGHTS.data() + 2 * number[4 * r + g], 8);
            return eight;
          },
          first, second);
      store_int(out + 128 * g, with_signs(first, p + SIGNS + 16 * g));
      store_int(out + 128 * g + 64, with_signs(second, p + SIGNS + 16 * g + 8));
    }
  }
#if MOTET_AVX512
  template <int g>
  PERMUTES void open_two(__m512i low, __m512i high, const uint8_t* p, uint8_t* out) {
    low = values_of(Words::VALUES, spread<8 * g, 32 + 8 * g, 2>(low));
    high = values_of(Words::VALUES, spread<8 * g, 32 + 8 * g, 2>(high));
    put_vector(out, 2 * g, low, p + SIGNS);
    put_vector(out, 2 * g + 1, high, p + SIGNS);
  }
  PERMUTES void open_fast(const uint8_t* p, uint8_t* out) {
    const __m512i at = _mm512_loadu_si512(p);
    __mmask64 masks[3];
    masks_of<bits>(at, p + MORE, masks);
    const __m512i low = looked_up<bits>(Words::LOW.data(), at, masks);
    const __m512i high = looked_up<bits>(Words::HIGH.data(), at, masks);
    open_two<0>(low, high, p, out);
    open_two<1>(low, high, p, out);
    open_two<2>(low, high, p, out);
    open_two<3>(low, high, p, out);
  }
#endif
};

// IQ3. The number of columns 4j…4j+3 of row r: its low byte at place(j, r) of 128 bytes, where rows
// and vectors stand two by two, so that twice unpacked words have a vector's rows in order; a
// further bit at the same place; signs.
template <int bits, int parts, const auto& grid, const auto& values>
struct Fours {
  using Words = List<grid, 4, 3, values>;
  static constexpr int GROUPS = 1, PARTS = parts;
  static constexpr int MORE = 128, SIGNS = MORE + 16 * (bits - 8), BYTES = SIGNS + SIGN_BYTES;
  static constexpr int place(int j, int r) {
    return j / 4 * 64 + r / 4 * 16 + j / 2 % 2 * 8 + r / 2 % 2 * 4 + j % 2 * 2 + r % 2;
  }

  static void pack(const Coded& c, uint8_t* p, int r) {
    for (int j = 0; j < 8; j++) {
      p[place(j, r)] = (uint8_t)c.number[j];
      put_high_bits<bits>(p + MORE, place(j, r), c.number[j]);
    }
    put_signs(p + SIGNS, r, c.negative);
  }
  static void open(const uint8_t* p, uint8_t* out) {
    for (int half = 0; half < 2; half++) {
      const Numbers<bits> number(p + 64 * half, p + MORE + 8 * half);
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++) {
        const i32x16 q = lanes([&](int r) { return Words::WEIGHTS[number[place(j, r)]]; });
        const int at = 4 * half + j;
        store_int(out + 64 * at, with_signs(q, p + SIGNS + 8 * at));
      }
    }
  }
#if MOTET_AVX512
  PERMUTES void open_fast(const uint8_t* p, uint8_t* out) {
    for (int half = 0; half < 2; half++) {
      const __m512i at = _mm512_loadu_si512(p + 64 * half);
      __mmask64 masks[2];
      masks_of<bits>(at, p + MORE + 8 * half, masks);
      const __m512i low = looked_up<bits>(Words::LOW.data(), at, masks);
      const __m512i high = looked_up<bits>(Words::HIGH.data(), at, masks);
      const __m512i two[2] = {_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)};
      for (int i = 0; i < 2; i++) {
        const int j = 4 * half + 2 * i;
        put_vector(out, j, values_of(Words::VALUES, spread<0, 16, 3>(two[i])), p + SIGNS);
        put_vector(out, j + 1, values_of(Words::VALUES, spread<32, 48, 3>(two[i])), p + SIGNS);
      }
    }
  }
#endif
};

// IQ1. Of row r 7 bytes at place(r): 7 bits for columns 4j…4j+3 at bit 7j, a number in base 3. Then
// for all columns or for each 8 of them 2 bytes, a bit for each row that is shifted down.
template <int shifts, int groups>
struct Ternary {
  using Words = List<BASE_3, 4, 2, IQ1_VALUES>;
  static constexpr int GROUPS = groups, PARTS = 8;
  static constexpr int SHIFTS = 7 * STRIP, BYTES = SHIFTS + 2 * shifts;
  // Two rows of each four in the first half.
  static constexpr int place(int r) { return 7 * (r / 2 % 2 * 8 + r / 4 * 2 + r % 2); }

  static void pack(const Coded& c, uint8_t* p, int r) {
    uint64_t all = 0;
    for (int j = 0; j < 8; j++) all |= (uint64_t)c.number[j] << (7 * j);
    memcpy(p + place(r), &all, 7);
    for (int i = 0; i < shifts; i++) put_bit(p + SHIFTS + 2 * i, r, c.shifted >> i);
  }
  static void open(const uint8_t* p, uint8_t* out) {
    uint32_t shift[shifts][STRIP];
    uint64_t all[STRIP];
    for (int r = 0; r < STRIP; r++) {
      for (int i = 0; i < shifts; i++)
        shift[i][r] = p[SHIFTS + 2 * i + r / 8] >> (r % 8) & 1 ? (uint32_t)-0x01010101 : 0x01010101;
      memcpy(&all[r], p + place(r), 8);  // and a byte of what follows
    }
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
      const i32x16 q = lanes([&](int r) { return Words::WEIGHTS[all[r] >> (7 * j) & 127]; });
      store_int(out + 64 * j, q + load_int(shift[j / 2 * shifts / 4]));
    }
  }
#if MOTET_AVX512
  // For rows of one half, eight numbers of each as bytes of weights, two bits each.
  PERMUTES __m512i half(const uint8_t* p) {
    const __m512i rows = _mm512_maskz_loadu_epi8(((__mmask64)1 << 56) - 1, p);
    alignas(64) static constexpr auto PLACES = [] {
      std::array<uint8_t, 64> out{};
      for (int i = 0; i < 64; i++) out[i] = (uint8_t)(i / 8 * 7 + i % 8);
      return out;
    }();
    const __m512i each = _mm512_permutexvar_epi8(_mm512_load_si512(PLACES.data()), rows);
    return looked_up<7>(Words::LOW.data(), spread<0, 28, 7>(each), nullptr);
  }
  template <int g>
  PERMUTES void open_two(__m512i first, __m512i second, const uint8_t* p, uint8_t* out) {
    uint16_t down;
    memcpy(&down, p + SHIFTS + 2 * (g * shifts / 4), 2);
    const __m512i shift = _mm512_mask_blend_epi32(down, _mm512_set1_epi8(1), _mm512_set1_epi8(-1));
    const __m512 a =
        _mm512_castsi512_ps(values_of(Words::VALUES, spread<16 * g, 16 * g + 8, 2>(first)));
    const __m512 b =
        _mm512_castsi512_ps(values_of(Words::VALUES, spread<16 * g, 16 * g + 8, 2>(second)));
    const __m512i even = _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0x88));
    const __m512i odd = _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0xdd));
    _mm512_storeu_si512(out + 128 * g, _mm512_add_epi8(even, shift));
    _mm512_storeu_si512(out + 128 * g + 64, _mm512_add_epi8(odd, shift));
  }
  PERMUTES void open_fast(const uint8_t* p, uint8_t* out) {
    const __m512i first = half(p), second = half(p + 56);
    open_two<0>(first, second, p, out);
    open_two<1>(first, second, p, out);
    open_two<2>(first, second, p, out);
    open_two<3>(first, second, p, out);
  }
#endif
};

// TQ. 1 + w in two bits: of columns 4j…4j+3 of row r in bytes 4r… of the first or the second 64, at
// bits 2j % 8.
struct Pairs {
  static constexpr int GROUPS = 1, PARTS = 1, BYTES = 128;

  static void pack(const Coded& c, uint8_t* p, int r) {
    for (int k = 0; k < 2; k++) {
      uint32_t all = 0;
      for (int j = 0; j < 4; j++)
        for (int i = 0; i < 4; i++)
          all |= (uint32_t)(c.number[4 * k + j] >> (2 * i) & 3) << (8 * i + 2 * j);
      memcpy(p + 64 * k + 4 * r, &all, 4);
    }
  }
  static INLINE void open(const uint8_t* p, uint8_t* out) {
    const i32x16 three = set_int(0x03030303), zero = set_int(0x3f3f3f3f);
    for (int k = 0; k < 2; k++, out += 256) {
      const i32x16 v = load_int(p + 64 * k);
      store_int(out, (v & three) + zero);
      store_int(out + 64, (right<2>(v) & three) + zero);
      store_int(out + 128, (right<4>(v) & three) + zero);
      store_int(out + 192, (right<6>(v) & three) + zero);
    }
  }
};

// A type's weights, in codes of such a kind.
template <class Kind, int file_bytes>
struct InCodes {
  using Opened = Layout<Bits<7>, Super<Kind::GROUPS, false, float>, 64>;
  using Scales = typename Opened::Scales;
  static constexpr bool SCALED = !std::is_same_v<Kind, Pairs>;
  static constexpr int GROUPS = Kind::GROUPS, FILE_BYTES = file_bytes;
  static constexpr int D = 0, SCALE_BYTES = 2 * Scales::PAIRS * STRIP, N = 32;
  static constexpr int BLOCKS = N + (SCALED ? SCALE_BYTES / 2 : 0);
  static constexpr int UNIT_BYTES = BLOCKS + SUPER / BLOCK * Kind::BYTES;
  static constexpr int64_t strip_bytes(int64_t columns) { return columns / SUPER * UNIT_BYTES; }

  static void pack(const Coded& c, int b, uint8_t* unit, int r) {
    if constexpr (SCALED)
      for (int g = 0; g < GROUPS; g++) {
        // Nibbles of 64 scales and of the 64 after them side by side.
        const int at = Scales::place(b * GROUPS + g, r);
        put_nibble(unit + N + at / 128 * 64, at % 64 * 2 + at / 64 % 2, c.scale[g]);
      }
    Kind::pack(c, unit + BLOCKS + b * Kind::BYTES, r);
  }
  static INLINE void open_head(const uint8_t* unit, uint8_t* out) {
    (f32x16::half((const uint16_t*)unit) * f32x16::set(1.0f / Kind::PARTS)).store((float*)out);
    const i32x16 one = set_int(0x01010101), even = set_int(0x1e1e1e1e);
    for (int i = 0; i < SCALE_BYTES / 128; i++) {
      const i32x16 n = SCALED ? load_int(unit + N + 64 * i) : set_int(0);
      store_int(out + Scales::S + 128 * i, (left<1>(n) & even) | one);
      store_int(out + Scales::S + 128 * i + 64, (right<3>(n) & even) | one);
    }
  }
  static void open_plain(const uint8_t* unit, uint8_t* out) {
    open_head(unit, out);
    for (int b = 0; b < SUPER / BLOCK; b++)
      Kind::open(unit + BLOCKS + b * Kind::BYTES, out + Opened::quants(b));
  }
#if MOTET_AVX512
  __attribute__((target("avx512vbmi"))) static void open_fast(const uint8_t* unit, uint8_t* out) {
    open_head(unit, out);
    for (int b = 0; b < SUPER / BLOCK; b++)
      Kind::open_fast(unit + BLOCKS + b * Kind::BYTES, out + Opened::quants(b));
  }
#endif
  // That of this processor.
  static Opener opener() {
#if MOTET_AVX512
    if constexpr (SCALED)
      if (permutes_bytes()) return open_fast;
#endif
    return open_plain;
  }
};

#define CODES(type, bytes, ...) \
  template <>                   \
  struct LayoutOf<type> : InCodes<__VA_ARGS__, bytes> {};
CODES(IQ2_XXS, 66, Eights<8, 1, IQ2_XXS_GRID>)
CODES(IQ2_XS, 74, Eights<9, 2, IQ2_XS_GRID>)
CODES(IQ2_S, 82, Eights<10, 2, IQ2_S_GRID>)
CODES(IQ3_XXS, 98, Fours<8, 4, IQ3_XXS_GRID, IQ3_XXS_VALUES>)
CODES(IQ3_S, 110, Fours<9, 1, IQ3_S_GRID, IQ3_S_VALUES>)
CODES(IQ1_S, 50, Ternary<1, 1>)
CODES(IQ1_M, 56, Ternary<4, 2>)
CODES(TQ1_0, 54, Pairs)
CODES(TQ2_0, 66, Pairs)
#undef CODES

// Whether a layout is one of codes.
template <class L>
constexpr bool IN_CODES = requires { L::opener(); };

}  // namespace
