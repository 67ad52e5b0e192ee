// A tile of queries going through the blocks of keys and values that they see.
#pragma once
#include "attention_block.hpp"

namespace {

constexpr int CHUNK = 8;  // blocks

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
        pairs(whole(a.rotary.half)),
        width(2 * pairs + whole(a.pool.head_dim - 2 * a.rotary.half)),
        query((int64_t)rows * 2 * pairs),
        turned((int64_t)rows * width),
        scores((int64_t)rows * PAGE),
        far_scores(a.extend.window ? (int64_t)rows * PAGE : 0),
        tops(whole(rows)),
        fades(whole(rows)),
        seen(rows),
        keys((int64_t)a.pool.head_dim * PAGE),
        stride(a.padded() + (a.latent() ? LANES : 0)),
        values((int64_t)PAGE * stride),
        key_scales((int64_t)scale_groups(a.pool.head_dim) * PAGE),
        value_scales((int64_t)scale_groups(a.pool.value_dim) * PAGE) {
    std::fill_n(query.p, (int64_t)rows * 2 * pairs, 0.0f);  // what fills the last vectors
  }

  // Chunks [first, last) of a tile; `done(row, greatest, total, values)` gets what each row made of
  // each chunk, in order.
  template <class Done>
  void run(const QueryTile& tile, int kv_head, int64_t first, int64_t last, const Done& done) {
    const int rows = load_queries(tile, kv_head);
    end_block = std::min(tile.end, last * CHUNK);
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
  static constexpr int whole(int n) { return (n + LANES - 1) / LANES * LANES; }

  // Queries of the tile, scaled. Channels that don't rotate go where they are read from.
  int load_queries(const QueryTile& tile, int kv_head) {
    const int dim = a.pool.head_dim, group = a.group(), half = a.rotary.half;
    const float rotary_scale = a.scale * a.rotary.scale * a.rotary.scale;
    first_head = (int64_t)kv_head * group;
    int rows = 0;
    for (int32_t t : tile.tokens) {
      const float factor = a.extend.factors ? a.extend.factors[t] : 1.0f;
      for (int h = 0; h < group; h++, rows++) {
        const float* x = a.q + ((int64_t)t * a.heads + kv_head * group + h) * dim;
        float *y = query.p + rows * 2 * pairs, *rest = turned.p + rows * width + 2 * pairs;
        for (int i = 0; i < half; i++) {
          y[i] = x[first_channel(a.rotary, i)] * (rotary_scale * factor);
          y[pairs + i] = x[second_channel(a.rotary, i)] * (rotary_scale * factor);
        }
        for (int c = 2 * half; c < dim; c++) rest[c - 2 * half] = x[c] * (a.scale * factor);
      }
    }
    score_passes = mix_passes = 0;
    by_rows<KERNEL_ROWS>(rows, [&](auto R, int) {
      score_passes += passes(R(), PARTS);
      mix_passes += passes(R(), a.padded() / LANES);
    });
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
    const int32_t after = b + 1 < end_block ? a.tables.pages[entry + 1] : -1;
    next_head = after < 0 ? nullptr : a.pool.head(after, kv_head);
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
    if (!pairs) return;
    const int group = a.group();
    const int64_t entry = 2 * a.rotary.padded;  // numbers of a distance in the table
    const float* table = nullptr;
    for (int r = 0; r < rows; r++) {
      if (r % group == 0) {
        const int64_t distance =
            std::max<int64_t>(0, std::min(a.rotary.distances - 1,
                                          distance_of(a.tables.positions[tile.tokens[r / group]])));
        table = a.rotary.table + distance * entry;
        if (distance >= PAGE)  // the next block's
          for (int64_t i = 0; i < entry; i += LANES) __builtin_prefetch(table - PAGE * entry + i);
      }
      const float* from = query.p + r * 2 * pairs;
      float* to = turned.p + r * width;
      for (int i = 0; i < pairs; i += LANES) {
        const f32x16 cos = f32x16::load(table + i), sin = f32x16::load(table + a.rotary.padded + i);
        const f32x16 x = f32x16::load(from + i), y = f32x16::load(from + pairs + i);
        (x * cos - y * sin).store(to + i);
        (x * sin + y * cos).store(to + pairs + i);
      }
    }
  }

  template <int kind>
  void block_of(const QueryTile& tile, int rows, int64_t b, const uint8_t* head, uint64_t any,
                uint64_t any_near, uint64_t any_far) {
    if constexpr (kind == KIND_Q8_0) {
      open_scales(head + a.pool.key_scales, a.pool.head_dim, key_scales.p);
      open_scales(head + a.pool.value_scales, a.pool.value_dim, value_scales.p);
    }
    next.spread(next_head, a.pool.values, score_passes * (a.pool.head_dim - a.rotary.half));
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
    softmax(tile, rows, b, a.tables.masks[a.tables.starts[tile.row] + b]);
    values_of<kind>(rows, head, __builtin_ctzll(any), PAGE - __builtin_clzll(any));
  }

  static void open_scales(const uint8_t* halves, int channels, float* out) {
    for (int i = 0; i < scale_groups(channels) * PAGE; i += LANES)
      f32x16::half((const uint16_t*)halves + i).store(out + i);
  }

  // Scores of the rotated queries against the block's keys, rotated by their `places`.
  template <int kind>
  void scores_of(int rows, const uint8_t* head, const float* places, float* out) {
    const int dim = a.pool.head_dim, half = a.rotary.half;
    const PageKeys<kind> page_keys{a.rotary, places, head, a.pool.item, key_scales.p};
    const float* q = turned.p;
    const Queries queries{q, q + pairs, q + 2 * pairs, width};
    auto score_all = [&](const auto& from) {
      by_rows<KERNEL_ROWS>(rows, [&](auto R, int r) {
        score<R()>(from, queries.from(r), dim, half, out + r * PAGE, PARTS, PAGE, next);
      });
    };
    if (rows <= KERNEL_ROWS && !a.latent()) return score_all(page_keys);
    for (int i = 0; i < half; i++)
      for (int p = 0; p < PARTS; p++) {
        const auto pair = page_keys.pair(i, p);
        pair.x.store(keys.p + (2 * i) * PAGE + p * LANES);
        pair.y.store(keys.p + (2 * i + 1) * PAGE + p * LANES);
      }
    for (int c = 2 * half; c < dim; c++)
      for (int p = 0; p < PARTS; p++) page_keys.single(c, p).store(keys.p + c * PAGE + p * LANES);
    score_all(OpenKeys{keys.p});
  }

  // Add the values of keys first … last − 1, of the block whose keys were opened last.
  template <int kind>
  void values_of(int rows, const uint8_t* head, int first, int last) {
    const Pool& pool = a.pool;
    const int padded = a.padded();
    next.spread(next_head ? next_head + pool.values : nullptr, pool.head_bytes - pool.values,
                mix_passes * (last - first));
    const PageValues<kind> page_values{head + pool.values, pool.padded, pool.item, value_scales.p,
                                       scale_groups(pool.value_dim)};
    auto mix_all = [&](const auto& from) {
      by_rows<KERNEL_ROWS>(rows, [&](auto R, int r) {
        mix<R()>(from, scores.p + r * PAGE, fades.p + r, first, last, padded,
                 chunk.values.p + r * padded, PAGE, next);
      });
    };
    if (rows <= KERNEL_ROWS && !a.latent()) return mix_all(page_values);
    if (a.latent())
      transpose(keys.p + (pool.head_dim - a.value_dim) * PAGE, a.value_dim, values.p, stride);
    else
      for (int j = first; j < last; j++)
        for (int p = 0; p < padded / LANES; p++)
          page_values.load(j, p).store(values.p + j * stride + p * LANES);
    mix_all(OpenValues{values.p, stride});
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

  // Scores to weights in place. What the rows have so far fades by as much as their greatest scores
  // have grown; keys that a row does not see have weight 0.
  void softmax(const QueryTile& tile, int rows, int64_t b, uint64_t mask) {
    const int group = a.group();
    for (int r = 0; r < rows; r++) {
      float* s = scores.p + r * PAGE;
      const int32_t position = a.tables.positions[tile.tokens[r / group]];
      seen.p[r] = visible(mask, position, b);
      if (!seen.p[r]) {
        tops.p[r] = -INFINITY;
        continue;
      }
      if (a.bias.table) add_bias(s, first_head + r % group, tile, position, b, seen.p[r]);
      tops.p[r] = greatest_seen(s, seen.p[r], a.softcap);
    }
    chunk.raise_to(rows, tops.p, fades.p);
    for (int r = 0; r < rows; r++) {
      float* s = scores.p + r * PAGE;
      if (!seen.p[r]) {
        std::fill_n(s, PAGE, 0.0f);
        continue;
      }
      const f32x16 top = f32x16::set(chunk.greatest.p[r]);
      f32x16 weight = f32x16::set(0);
      for (int p = 0; p < PAGE; p += LANES) {
        const f32x16 w = exp(f32x16::load(s + p) - top);
        w.store(s + p);
        weight = weight + w;
      }
      chunk.total.p[r] = std::fma(chunk.total.p[r], fades.p[r], sum(weight));
    }
  }

  const Attention& a;
  const int pairs, width;  // numbers that the first channels of a row's pairs take, and a whole row
  int64_t first_head = 0, end_block = 0, score_passes = 0, mix_passes = 0;
  const uint8_t* next_head = nullptr;  // of the block after this one
  Ahead next;
  Buffer<float> query, turned, scores, far_scores, tops, fades;
  Buffer<uint64_t> seen;  // keys of a block, of each row
  // Of an opened block. Rows of latent values are a vector apart: they are written across.
  Buffer<float> keys;
  const int stride;
  Buffer<float> values, key_scales, value_scales;
};

}  // namespace
