// 32 rows of x against two strips on the matrix unit, to the bit what `multiply` computes: the sums
// of a group of columns are exact in int32, and enter the float sums in the same order.
#pragma once
#include "super_block.hpp"
#include "tiles.hpp"

namespace {

constexpr int TALL = 32;   // rows of a tall tile of x
constexpr int FLIGHT = 4;  // groups of columns whose sums are out at once

// The strips' quants, opened: [strip][block][8][64].
template <class L, int S>
void open_strips(const uint8_t* strips, int64_t strip_bytes, int64_t blocks, uint8_t* panel) {
  for (int s = 0; s < S; s++)
    for (int64_t b = 0; b < blocks; b++) {
      i32x16 w[8];
      L::Quants::open(strips + s * strip_bytes + L::quants(b), w);
      for (int j = 0; j < 8; j++) store_int(panel + ((s * blocks + b) * 8 + j) * 64, w[j]);
    }
}

// The sums of `count` groups of columns from group `start` on, of 32 rows of x and S strips.
template <class L, int S>
inline void tall_sums(Tiles& tiles, const uint8_t* panel, int64_t blocks, const int8_t* a,
                      int64_t start, int count, int32_t (*sums)[S][TALL][LANES]) {
  constexpr int G = L::Scales::GROUPS, columns = BLOCK / G;
  for (int i = 0; i < count; i++) {
    const int64_t b = (start + i) / G, g = (start + i) % G;
    const int8_t* x = a + b * TALL * BLOCK + g * columns;
    const uint8_t* w = panel + b * 512 + g * columns * STRIP;
    tiles.template zero<0>();
    tiles.template zero<1>();
    tiles.template load<4>(x, BLOCK);
    tiles.template load<5>(x + 16 * BLOCK, BLOCK);
    tiles.template load<6>(w, 64);
    tiles.template dot<0, 4, 6>();
    tiles.template dot<1, 5, 6>();
    if constexpr (S == 2) {
      tiles.template zero<2>();
      tiles.template zero<3>();
      tiles.template load<7>(w + blocks * 512, 64);
      tiles.template dot<2, 4, 7>();
      tiles.template dot<3, 5, 7>();
    }
    tiles.template store<0>(sums[i][0][0]);
    tiles.template store<1>(sums[i][0][16]);
    if constexpr (S == 2) {
      tiles.template store<2>(sums[i][1][0]);
      tiles.template store<3>(sums[i][1][16]);
    }
  }
}

// a, scale and side point at a tall tile; extra is Side::Value, of which init and scaled are read.
template <class L, int S, class Extra>
void multiply_tiles(Tiles& tiles, const uint8_t* panel, const uint8_t* strips, int64_t strip_bytes,
                    int64_t blocks, const int8_t* a, const float* scale, const Extra* side,
                    f32x16 (*acc)[TALL]) {
  using Scales = typename L::Scales;
  alignas(64) int32_t sums[FLIGHT][S][TALL][LANES];
  for (int s = 0; s < S; s++)
    for (int r = 0; r < TALL; r++) acc[s][r] = f32x16::set(0);
  if constexpr (Scales::BLOCKS > 1) {
    constexpr int groups = Scales::BLOCKS * Scales::GROUPS;
    constexpr int items = Scales::MINIMUM ? Scales::PAIRS : groups;
    static_assert(groups % FLIGHT == 0);
    for (int64_t u = 0; u < blocks / Scales::BLOCKS; u++, side += items * TALL) {
      i32x16 total[S][TALL];
      for (int start = 0; start < groups; start += FLIGHT) {
        tall_sums<L, S>(tiles, panel, blocks, a, u * groups + start, FLIGHT, sums);
        for (int s = 0; s < S; s++) {
          const uint8_t* unit = strips + s * strip_bytes + u * L::UNIT_BYTES;
          i32x16 scales[FLIGHT];
          for (int i = 0; i < FLIGHT; i++) {
            const i32x16 both = Scales::s_pair(unit, (start + i) / 2);
            scales[i] = right_signed<16>(i % 2 ? both : left<16>(both));
          }
          for (int r = 0; r < TALL; r++) {
            i32x16 all = start ? total[s][r] : set_int(0);
            for (int i = 0; i < FLIGHT; i++) {
              i32x16 sum = load_int(sums[i][s][r]);
              if constexpr (!Scales::MINIMUM)
                sum = sum + set_int(side[(start + i) * TALL + r].init);
              all = all + sum * scales[i];
            }
            total[s][r] = all;
          }
        }
      }
      for (int s = 0; s < S; s++) {
        const uint8_t* unit = strips + s * strip_bytes + u * L::UNIT_BYTES;
        for (int r = 0; r < TALL; r++) {
          i32x16 least;
          if constexpr (Scales::MINIMUM) least = super_minimum<L, TALL>(unit, side + r);
          acc[s][r] = fma(super_value<L>(unit, total[s][r], least),
                          f32x16::set(scale[u * TALL + r]), acc[s][r]);
        }
      }
    }
    return;
  }
  constexpr int G = Scales::GROUPS;
  const int64_t groups = blocks * G;
  for (int64_t start = 0; start < groups; start += FLIGHT) {
    const int count = (int)(groups - start < FLIGHT ? groups - start : FLIGHT);
    tall_sums<L, S>(tiles, panel, blocks, a, start, count, sums);
    for (int s = 0; s < S; s++) {
      const uint8_t* strip = strips + s * strip_bytes;
      f32x16 d[FLIGHT], m[FLIGHT];
      for (int i = 0; i < count; i++) {
        d[i] = Scales::d(strip + L::unit((start + i) / G) + (start + i) % G * STRIP);
        if constexpr (Scales::MINIMUM) m[i] = Scales::m(strip + L::unit(start + i));
      }
      for (int r = 0; r < TALL; r++) {
        f32x16 total = acc[s][r];
        for (int i = 0; i < count; i += G) {
          const Extra* extra = side + (start + i) * TALL + r;
          const f32x16 one = f32x16::set(scale[(start + i) / G * TALL + r]);
          i32x16 sum[G];
          for (int g = 0; g < G; g++)
            sum[g] =
                load_int(sums[i + g][s][r]) + set_int(Scales::MINIMUM ? 0 : extra[g * TALL].init);
          if constexpr (G == 2)
            total = fma(pair_value(d[i], sum[0], d[i + 1], sum[1]), one, total);
          else
            total = fma(d[i] * one, to_float(sum[0]), total);
          if constexpr (Scales::MINIMUM) total = fma(m[i], f32x16::set(extra->scaled), total);
        }
        acc[s][r] = total;
      }
    }
  }
}

}  // namespace
