// A tile of queries going through the blocks of keys and values that they see.
#pragma once
#include "attention_block.hpp"

namespace {

constexpr int CHUNK = 8;  // blocks
constexpr int FEW = 4;    // rows up to which a block is opened on the fly

struct QueryTile {
  int32_t row;
  int32_t stage;  // of Self-Extend, the same for all of them
  std::vector<int32_t> tokens;
  int64_t begin = 0, end = 0;  // blocks that one of its queries may see

  int64_t first_chunk() const { return begin / CHUNK; }
  int64_t chunks() const { return (end + CHUNK - 1) / CHUNK - first_chunk(); }
};

// One thread's buffers for a tile of queries of one KV head.
class Worker {
 public:
  Worker(const Attention& a, int rows)
      : chunk(rows, a.padded()),
        all(rows, a.padded()),
        a(a),
        query((int64_t)rows * a.pool.head_dim),
        turned((int64_t)rows * a.pool.head_dim),
        scores((int64_t)rows * PAGE),
        far_scores(a.extend.window ? (int64_t)rows * PAGE : 0),
        keys((int64_t)a.pool.head_dim * PAGE),
        stride(a.padded() + (a.latent() ? LANES : 0)),
        values((int64_t)PAGE * stride) {}

  // Chunks [first, last) of a tile; `done(row, greatest, total, values)` gets what each row made of
  // each chunk, in order.
  template <class Done>
  void run(const QueryTile& tile, int kv_head, int64_t first, int64_t last, const Done& done) {
    const int rows = load_queries(tile, kv_head);
    for (int64_t c = first; c < last; c++) {
      chunk.clear(rows, a.padded());
      const int64_t end = std::min(tile.end, (c + 1) * CHUNK);
      for (int64_t b = std::max(tile.begin, c * CHUNK); b < end; b++) block(tile, kv_head, rows, b);
      for (int r = 0; r < rows; r++)
        done(r, chunk.greatest.p[r], chunk.total.p[r], chunk.values.p + r * a.padded());
    }
  }

  State chunk, all;

 private:
  // Queries of the tile, scaled, pairs side by side.
  int load_queries(const QueryTile& tile, int kv_head) {
    const int dim = a.pool.head_dim, group = a.group();
    const float rotary_scale = a.scale * a.rotary.scale * a.rotary.scale;
    first_head = (int64_t)kv_head * group;
    int rows = 0;
    for (int32_t t : tile.tokens) {
      const float factor = a.extend.factors ? a.extend.factors[t] : 1.0f;
      for (int h = 0; h < group; h++, rows++) {
        const float* x = a.q + ((int64_t)t * a.heads + kv_head * group + h) * dim;
        float* y = query.p + rows * dim;
        for (int i = 0; i < a.rotary.half; i++) {
          y[2 * i] = x[first_channel(a.rotary, i)] * (rotary_scale * factor);
          y[2 * i + 1] = x[second_channel(a.rotary, i)] * (rotary_scale * factor);
        }
        for (int c = 2 * a.rotary.half; c < dim; c++) y[c] = x[c] * (a.scale * factor);
      }
    }
    return rows;
  }

  // Which keys of block b each query of the tile sees.
  uint64_t visible(uint64_t mask, int32_t position, int64_t b) const {
    const int64_t newest = position - b * PAGE;
    if (newest < 0) return 0;
    if (newest < PAGE - 1) mask &= ((uint64_t)2 << newest) - 1;
    if (a.window) {
      const int64_t oldest = newest - a.window + 1;
      if (oldest >= PAGE) return 0;
      if (oldest > 0) mask &= ~(uint64_t)0 << oldest;
    }
    return mask;
  }

  // Which keys of block b are far from a query, by Self-Extend: at least a window before it.
  uint64_t far(int32_t position, int64_t b) const {
    if (!a.extend.window) return 0;
    const int64_t nearest = position - a.extend.window - b * PAGE;
    if (nearest < 0) return 0;
    return nearest < PAGE - 1 ? ((uint64_t)2 << nearest) - 1 : ~(uint64_t)0;
  }

  void block(const QueryTile& tile, int kv_head, int rows, int64_t b) {
    const int64_t entry = a.tables.starts[tile.row] + b;
    const int32_t page = a.tables.pages[entry];
    if (page < 0) return;
    uint64_t any = 0, any_near = 0, any_far = 0;
    for (int32_t t : tile.tokens) {
      const uint64_t seen = visible(a.tables.masks[entry], a.tables.positions[t], b),
                     away = far(a.tables.positions[t], b);
      any |= seen;
      any_near |= seen & ~away;
      any_far |= seen & away;
    }
    if (!any) return;
    const uint8_t* head = a.pool.head(page, kv_head);
    switch (a.pool.kind) {
      case KIND_F32: return block_of<KIND_F32>(tile, rows, b, head, any, any_near, any_far);
      case KIND_F16: return block_of<KIND_F16>(tile, rows, b, head, any, any_near, any_far);
      case KIND_BF16: return block_of<KIND_BF16>(tile, rows, b, head, any, any_near, any_far);
      default: return block_of<KIND_Q8_0>(tile, rows, b, head, any, any_near, any_far);
    }
  }

  // Rotate each query by its distance from the block's start. The table may end before that of a
  // query that sees no key of the block at this distance: its scores are not used.
  template <class Distance>
  void turn_queries(const QueryTile& tile, int rows, const Distance& distance_of) {
    const int dim = a.pool.head_dim, group = a.group();
    for (int r = 0; r < rows; r++) {
      const int64_t distance =
          std::max<int64_t>(0, std::min(a.rotary.distances - 1,
                                        distance_of(a.tables.positions[tile.tokens[r / group]])));
      const float* cos = a.rotary.table + distance * 2 * a.rotary.padded;
      const float* sin = cos + a.rotary.padded;
      const float* x = query.p + r * dim;
      float* y = turned.p + r * dim;
      for (int i = 0; i < a.rotary.half; i++) {
        y[2 * i] = x[2 * i] * cos[i] - x[2 * i + 1] * sin[i];
        y[2 * i + 1] = x[2 * i] * sin[i] + x[2 * i + 1] * cos[i];
      }
      for (int c = 2 * a.rotary.half; c < dim; c++) y[c] = x[c];
    }
  }

  template <int kind>
  void block_of(const QueryTile& tile, int rows, int64_t b, const uint8_t* head, uint64_t any,
                uint64_t any_near, uint64_t any_far) {
    const int padded = a.padded();
    const int first = __builtin_ctzll(any), last = PAGE - __builtin_clzll(any);
    const bool turns = a.rotary.half > 0;  // else scores are the same at any distance
    if (any_near || !turns) {
      turn_queries(tile, rows, [&](int64_t position) { return position - b * PAGE; });
      scores_of<kind>(rows, head, a.rotary.places, scores.p);
    }
    if (any_far && turns) {
      // Positions in groups, moved so that they meet the near ones at the window (Jin et al. 2024,
      // arXiv 2401.01325, eq. 4). Groups are cut from the sequence's start, not the block's.
      const Stage& stage = a.extend.stages[tile.stage];
      const int64_t start = b * PAGE;
      turn_queries(tile, rows, [&](int64_t position) {
        return a.extend.distance(position, start, stage.group);
      });
      scores_of<kind>(rows, head, stage.places_of(start, a.rotary.half),
                      any_near ? far_scores.p : scores.p);
      if (any_near) take_far(tile, rows, b);
    }
    const uint64_t mask = a.tables.masks[a.tables.starts[tile.row] + b];
    const PageValues<kind> page_values{a, head};
    softmax(tile, rows, b, mask);
    if (rows <= FEW && !a.latent()) {
      by_rows(rows, [&](auto R, int r) {
        mix<R()>(page_values, scores.p + r * PAGE, first, last, padded,
                 chunk.values.p + r * padded);
      });
      return;
    }
    if (a.latent())
      transpose(keys.p + (a.pool.head_dim - a.value_dim) * PAGE, a.value_dim, values.p, stride);
    else
      for (int j = first; j < last; j++)
        for (int p = 0; p < padded / LANES; p++)
          page_values.load(j, p).store(values.p + j * stride + p * LANES);
    const OpenValues open_values{values.p, stride};
    by_rows(rows, [&](auto R, int r) {
      mix<R()>(open_values, scores.p + r * PAGE, first, last, padded, chunk.values.p + r * padded);
    });
  }

  // Scores of the rotated queries against the block's keys, rotated by their `places`.
  template <int kind>
  void scores_of(int rows, const uint8_t* head, const float* places, float* out) {
    const int dim = a.pool.head_dim, half = a.rotary.half;
    const PageKeys<kind> page_keys{a, head, places};
    if (rows <= FEW && !a.latent()) {
      by_rows(rows, [&](auto R, int r) {
        score<R()>(page_keys, turned.p + r * dim, dim, half, out + r * PAGE);
      });
      return;
    }
    for (int i = 0; i < half; i++)
      for (int p = 0; p < PARTS; p++) {
        f32x16 x, y;
        page_keys.pair(i, p, x, y);
        x.store(keys.p + (2 * i) * PAGE + p * LANES);
        y.store(keys.p + (2 * i + 1) * PAGE + p * LANES);
      }
    for (int c = 2 * half; c < dim; c++)
      for (int p = 0; p < PARTS; p++) page_keys.single(c, p).store(keys.p + c * PAGE + p * LANES);
    const OpenKeys open_keys{keys.p};
    by_rows(rows, [&](auto R, int r) {
      score<R()>(open_keys, turned.p + r * dim, dim, half, out + r * PAGE);
    });
  }

  void take_far(const QueryTile& tile, int rows, int64_t b) {
    for (int r = 0; r < rows; r++) {
      const uint64_t away = far(a.tables.positions[tile.tokens[r / a.group()]], b);
      for (int j = 0; j < PAGE; j++)
        if (away >> j & 1) scores.p[r * PAGE + j] = far_scores.p[r * PAGE + j];
    }
  }

  // Add what the distance of each key of block b counts for to a row's scores. Of keys that the row
  // does not see it may be anything.
  void add_bias(float* s, int64_t head, const QueryTile& tile, int64_t position, int64_t b,
                uint64_t seen) const {
    const float *zero = a.bias.of_zero(head), *from = zero + b * PAGE - position;
    const uint64_t away = seen & far((int32_t)position, b);
    float mixed[PAGE] = {};
    if (away) {
      if (seen & ~away) std::copy_n(from, PAGE, mixed);
      const int64_t group = a.extend.stages[tile.stage].group;
      const float* grouped = zero - a.extend.distance(position, b * PAGE, group);
      int64_t place = b * PAGE % group;
      for (int j = 0; j < PAGE; j++, place++) {
        if (place == group) place = 0, grouped++;
        if (away >> j & 1) mixed[j] = *grouped;
      }
      from = mixed;
    }
    raise(s, from);
  }

  // Scores to weights in place, and the running state brought to the new greatest score.
  void softmax(const QueryTile& tile, int rows, int64_t b, uint64_t mask) {
    const int group = a.group(), padded = a.padded();
    for (int r = 0; r < rows; r++) {
      float* s = scores.p + r * PAGE;
      const uint64_t seen = visible(mask, a.tables.positions[tile.tokens[r / group]], b);
      if (!seen) {
        std::fill_n(s, PAGE, 0.0f);
        continue;
      }
      if (a.bias.table)
        add_bias(s, first_head + r % group, tile, a.tables.positions[tile.tokens[r / group]], b,
                 seen);
      weigh(chunk, r, s, seen, a.softcap, padded);
    }
  }

  const Attention& a;
  int64_t first_head = 0;
  Buffer<float> query, turned, scores, far_scores, keys;
  // Of an opened block. Rows of latent values are a vector apart: they are written across.
  const int stride;
  Buffer<float> values;
};

}  // namespace
