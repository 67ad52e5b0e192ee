// Sums over a sequence's tokens, however many micro-batches these take.
#pragma once
#include "recurrent.hpp"

namespace {

// Each run's rows added in order to its state, a sum and what rounding took from it (Neumaier
// 1974; the error is found as in Knuth's TwoSum, without a branch). The out row of a run is their
// sum.
inline void sum_rows(ThreadPool& pool, const float* x, int64_t n, float* states, const Runs& runs,
                     float* out) {
  over_runs(pool, runs, (n + LANES - 1) / LANES, 8, [&](int64_t run, int64_t first, int64_t last) {
    const int64_t at = first * LANES, width = std::min(n, last * LANES) - at;
    float* to = states + (int64_t)runs.write[run] * 2 * n + at;
    const float* slot = slot_of(states, runs.read[run], 2 * n);
    const float* from = begin(slot ? slot + at : nullptr, to, 2, n, width);
    for (int64_t i = 0; i < width; i += LANES) {
      const int lanes = (int)std::min<int64_t>(LANES, width - i);
      f32x16 total = take(from + i, lanes), lost = take(from + n + i, lanes);
      for (int32_t r = runs.starts[run]; r < runs.starts[run + 1]; r++) {
        const f32x16 v = take(x + (int64_t)runs.order[r] * n + at + i, lanes);
        const f32x16 sum = total + v, added = sum - total;
        lost = lost + ((total - (sum - added)) + (v - added));
        total = sum;
      }
      put(to + i, lanes, total);
      put(to + n + i, lanes, lost);
      put(out + run * n + at + i, lanes, total + lost);
    }
  });
}

}  // namespace
