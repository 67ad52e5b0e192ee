// Which pages a micro-batch reads and writes: the same for every layer of a cache.
#pragma once
#include <stdexcept>
#include <vector>

#include "pages.hpp"

namespace {

// Checked once, when it is made, and copied: only the blocks that its tokens may see, so that a
// wide table with few sequences in use costs little, and a caller may change the arrays afterwards.
struct BlockTables {
  // table and masks: [sequences][width]; the others: [tokens].
  BlockTables(const int32_t* table, const uint64_t* mask, int64_t sequences, int64_t width,
              const int32_t* table_rows, const int32_t* places, const int64_t* targets,
              int64_t tokens)
      : rows(tokens), positions(places, places + tokens), slots(targets, targets + tokens) {
    auto check = [](bool condition, const char* what) {
      if (!condition) throw std::invalid_argument(what);
    };
    std::vector<int64_t> blocks(sequences);  // that a sequence's tokens may see
    for (int64_t t = 0; t < tokens; t++) {
      const int64_t row = table_rows[t], p = positions[t];
      check(row >= 0 && row < sequences && p >= 0 && p / PAGE < width,
            "block tables: a token beyond the tables");
      check(slots[t] >= 0, "block tables: a slot below 0");
      blocks[row] = std::max(blocks[row], p / PAGE + 1);
      furthest = std::max(furthest, positions[t]);
      pages_needed = std::max(pages_needed, slots[t] / PAGE + 1);
    }
    std::vector<int32_t> row_of(sequences, -1);
    for (int64_t s = 0; s < sequences; s++) {
      if (!blocks[s]) continue;
      row_of[s] = (int32_t)starts.size();
      starts.push_back((int64_t)pages.size());
      pages.insert(pages.end(), table + s * width, table + s * width + blocks[s]);
      masks.insert(masks.end(), mask + s * width, mask + s * width + blocks[s]);
    }
    for (int64_t t = 0; t < tokens; t++) rows[t] = row_of[table_rows[t]];
    for (int32_t page : pages) pages_needed = std::max<int64_t>(pages_needed, (int64_t)page + 1);
  }

  int64_t tokens() const { return (int64_t)positions.size(); }

  std::vector<int32_t> pages;   // of all sequences in use, one after another; < 0: none
  std::vector<uint64_t> masks;  // of each page: which of its positions are held
  std::vector<int64_t> starts;  // of each sequence in `pages`
  std::vector<int32_t> rows;    // of each token: its sequence in `starts`
  std::vector<int32_t> positions;
  std::vector<int64_t> slots;  // where each token is written
  int32_t furthest = 0;        // position
  int64_t pages_needed = 0;    // pages that a pool must have
};

}  // namespace
