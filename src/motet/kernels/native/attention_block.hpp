// What attention is given, and a softmax in the making.
#pragma once
#include <bit>
#include <cfloat>
#include <numeric>

#include "attention_kernels.hpp"
#include "block_tables.hpp"

namespace {

// Self-Extend with one group size: far keys are rotated by their group's place in the block. Blocks
// begin at different places in a group, unless the group's size divides a block's.
struct Stage {
  int64_t group;
  const float* places;  // [group / gcd(group, PAGE)][half][2][PAGE]
  const float* places_of(int64_t start, int half) const {
    return places + start % group / std::gcd(group, (int64_t)PAGE) * half * 2 * PAGE;
  }
};
struct SelfExtend {
  int window = 0;                  // 0: no Self-Extend
  std::vector<int32_t> stage;      // [tokens]: index of each query's stage
  const float* factors = nullptr;  // [tokens] that multiply queries; may be absent
  std::vector<Stage> stages;
  int32_t stage_of(int64_t t) const { return window ? stage[t] : 0; }

  // From a block's start, in groups, to a query that sees some of the block's keys as far.
  int64_t distance(int64_t position, int64_t start, int64_t group) const {
    return position / group + window - window / group - start / group;
  }
};

// What is added to scores, by distance: [heads][2 · reach + 1], the middle one of distance 0.
struct Bias {
  const float* table = nullptr;  // may be absent
  int64_t reach = 0;
  const float* of_zero(int64_t head) const { return table + head * (2 * reach + 1) + reach; }
};
inline void raise(float* scores, const float* bias) {
  for (int p = 0; p < PAGE; p += LANES)
    (f32x16::load(scores + p) + f32x16::load(bias + p)).store(scores + p);
}

struct Attention {
  const float* q;
  const Pool& pool;
  const BlockTables& tables;
  int heads;
  int value_dim;
  float scale;
  int window;
  float softcap;
  const Rotary& rotary;
  const SelfExtend& extend;
  Bias bias;
  const float* sinks;  // [heads], or null
  float* out;

  // Entries that a rotary table must have, and distances that a bias is read at. A query's distance
  // to the start of a block with a key that it sees near is that key's, which a window bounds, and
  // at most PAGE − 1 more.
  int64_t distances() const {
    int64_t most = tables.furthest;
    for (int64_t near : {window, extend.window})
      if (near) most = std::min(most, near - 1 + PAGE - 1);
    for (int64_t t = 0; extend.window && t < tables.tokens(); t++)
      if (tables.positions[t] >= extend.window)
        most = std::max(
            most, extend.distance(tables.positions[t], 0, extend.stages[extend.stage[t]].group));
    return most + 1;
  }
  int group() const { return heads / pool.kv_heads; }
  int padded() const { return (value_dim + LANES - 1) / LANES * LANES; }
  // Whether values are the last channels of the keys.
  bool latent() const { return pool.value_dim == 0; }
};

// Rows of PAGE numbers, a channel each, to [PAGE][stride], with zeros up to whole vectors.
inline void transpose(const float* rows, int channels, float* out, int stride) {
  for (int j0 = 0; j0 < PAGE; j0 += LANES)
    for (int c = 0; c < (channels + LANES - 1) / LANES * LANES; c += 4)
      for (int j = j0; j < j0 + LANES; j += 4) {
        float4 v[4] = {};
        for (int i = 0; i < std::min(4, channels - c); i++) v[i] = load4(rows + (c + i) * PAGE + j);
        transpose4(v);
        for (int i = 0; i < 4; i++) store4(out + (j + i) * stride + c, v[i]);
      }
}

inline float exp_one(float x) {
  float out[LANES];
  exp(f32x16::set(x)).store(out);
  return out[0];
}

// 1, or NaN where a query is not finite: of its scores the greatest is taken, and NaN is lost
// there.
inline float soundness(const float* query, int channels) {
  uint32_t most = 0;  // of the magnitudes' bits, which are in the magnitudes' order
  for (int c = 0; c < channels; c++)
    most = std::max(most, std::bit_cast<uint32_t>(query[c]) & 0x7fffffffu);
  return most < 0x7f800000u ? 1.0f : NAN;
}

// The greatest of a row's scores against a block. Scores of keys that it does not see become
// negative infinity.
inline float greatest_seen(float* scores, uint64_t seen, float softcap) {
  if (softcap > 0) {
    const f32x16 cap = f32x16::set(softcap);
    for (int p = 0; p < PAGE; p += LANES)
      (cap * tanh(f32x16::load(scores + p) / cap)).store(scores + p);
  }
  if (~seen)
    for (int j = 0; j < PAGE; j++)
      if (!(seen >> j & 1)) scores[j] = -INFINITY;
  f32x16 most = f32x16::load(scores);
  for (int p = LANES; p < PAGE; p += LANES) most = maximum(most, f32x16::load(scores + p));
  return largest(most);
}

// A softmax in the making for some rows: greatest score, sum of weights, weighted values.
struct State {
  State(int rows, int padded)
      : greatest((rows + LANES - 1) / LANES * LANES), total(rows), values((int64_t)rows * padded) {}
  void clear(int rows, int padded) {
    std::fill_n(greatest.p, rows, -INFINITY);
    std::fill_n(total.p, rows, 0.0f);
    std::fill_n(values.p, (int64_t)rows * padded, 0.0f);
  }
  // Bring a row to a new greatest score, to which weights of this sum are relative.
  void raise_to(int row, float top, float weight, int padded) {
    const float old = greatest.p[row], fade = old == -INFINITY ? 0.0f : exp_one(old - top);
    total.p[row] = std::fma(total.p[row], fade, weight);
    greatest.p[row] = top;
    if (fade == 1.0f) return;
    float* v = values.p + (int64_t)row * padded;
    for (int i = 0; i < padded; i += LANES) (f32x16::load(v + i) * f32x16::set(fade)).store(v + i);
  }
  // Bring the greatest scores of the first rows up to `tops`: what their sums and values are to be
  // multiplied by goes to `fades`. Both have room for whole vectors.
  void raise_to(int rows, const float* tops, float* fades) {
    for (int r = 0; r < rows; r += LANES) {
      const f32x16 old = f32x16::load(greatest.p + r);
      const f32x16 top = maximum(f32x16::load(tops + r), old);
      choose_below(old, f32x16::set(-FLT_MAX), f32x16::set(0), exp(old - top)).store(fades + r);
      top.store(greatest.p + r);
    }
  }
  // Add what a later chunk made of a row.
  void join(int row, float later_greatest, float later_total, const float* later, int padded) {
    if (later_greatest == -INFINITY) return;
    float* v = values.p + (int64_t)row * padded;
    const float top = std::max(greatest.p[row], later_greatest);
    const float a = greatest.p[row] == -INFINITY ? 0.0f : exp_one(greatest.p[row] - top);
    const float b = exp_one(later_greatest - top);
    const f32x16 va = f32x16::set(a), vb = f32x16::set(b);
    total.p[row] = std::fma(total.p[row], a, later_total * b);
    greatest.p[row] = top;
    for (int i = 0; i < padded; i += LANES)
      fma(f32x16::load(v + i), va, f32x16::load(later + i) * vb).store(v + i);
  }
  Buffer<float> greatest, total, values;
};

}  // namespace
