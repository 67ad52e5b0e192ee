// The Python face of attention: what a layer's pool, a micro-batch's tables and a rotation are is
// described by an object each, checked where it is made; a call then checks that they fit.
#include "attention.hpp"
#include "binding.hpp"
#include "encoder_attention.hpp"

namespace {

// A layer's pages of keys and values; keeps their memory.
struct KVPages : Pool {
  KVPages(Array<uint8_t, 2> buffer, int kv_heads, int head_dim, int value_dim, int kind)
      : Pool(buffer.data(), buffer.shape(0), kv_heads, head_dim, value_dim, kind), buffer(buffer) {
    need(kind >= KIND_F32 && kind <= KIND_Q8_0, "pages: no such kind");
    need(kv_heads > 0 && head_dim > 0 && value_dim >= 0 &&
             (int64_t)buffer.shape(1) == head_bytes * kv_heads,
         "pages: of another size than their heads");
  }
  Array<uint8_t, 2> buffer;
};

BlockTables block_tables(Array<const int32_t, 2> tables, Array<const uint64_t, 2> masks,
                         Array<const int32_t, 1> rows, Array<const int32_t, 1> positions,
                         Array<const int64_t, 1> slots) {
  need(tables.shape(0) == masks.shape(0) && tables.shape(1) == masks.shape(1),
       "block tables: tables and masks differ");
  need(rows.shape(0) == positions.shape(0) && slots.shape(0) == positions.shape(0),
       "block tables: token counts differ");
  return {tables.data(),
          masks.data(),
          (int64_t)tables.shape(0),
          (int64_t)tables.shape(1),
          rows.data(),
          positions.data(),
          slots.data(),
          (int64_t)rows.shape(0)};
}

struct HeldRotary : Rotary {
  HeldRotary(Array<const float, 3> turns, Array<const float, 3> block, bool interleaved,
             float scale)
      : turns(turns), block(block) {
    need(turns.shape(0) > 0 && turns.shape(1) == 2 && turns.shape(2) >= block.shape(0) &&
             turns.shape(2) % LANES == 0 && block.shape(1) == 2 && block.shape(2) == PAGE,
         "rotary: tables of another shape");
    table = turns.data();
    places = block.data();
    distances = turns.shape(0);
    half = (int)block.shape(0);
    padded = (int)turns.shape(2);
    this->interleaved = interleaved;
    this->scale = scale;
  }
  Array<const float, 3> turns, block;
};

struct HeldSelfExtend : SelfExtend {
  using Far = std::pair<int64_t, Array<const float, 4>>;
  HeldSelfExtend(int window, std::vector<Far> far, Array<const int32_t, 1> stage_of_token,
                 std::optional<Array<const float, 1>> multipliers)
      : far(far), multipliers(multipliers) {
    const int64_t tokens = stage_of_token.shape(0);
    need(window > 0, "Self-Extend: no window");
    need(!multipliers || (int64_t)multipliers->shape(0) == tokens,
         "Self-Extend: token counts differ");
    for (const auto& [group, places] : far) {
      need(group > 0 && (int64_t)places.shape(0) == group / std::gcd(group, (int64_t)PAGE) &&
               places.shape(1) == far[0].second.shape(1) && places.shape(2) == 2 &&
               places.shape(3) == PAGE,
           "Self-Extend: a stage of another shape");
      stages.push_back({group, places.data()});
    }
    for (int64_t t = 0; t < tokens; t++) {
      stage.push_back(stage_of_token.data()[t]);
      need(stage.back() >= 0 && (size_t)stage.back() < stages.size(), "Self-Extend: no such stage");
    }
    this->window = window;
    factors = multipliers ? multipliers->data() : nullptr;
  }
  int half() const { return far.empty() ? 0 : (int)far[0].second.shape(1); }
  std::vector<Far> far;
  std::optional<Array<const float, 1>> multipliers;
};

using BiasTable = std::optional<Array<const float, 2>>;
// `longest`: the farthest of the distances that it is read at.
Bias bias_of(const BiasTable& table, int heads, int64_t longest) {
  if (!table) return {};
  const Bias bias{table->data(), (int64_t)table->shape(1) / 2};
  need((int)table->shape(0) == heads && table->shape(1) % 2 == 1 && bias.reach >= longest + PAGE,
       "attention: a bias of other heads, or its table too short");
  return bias;
}

// Store k and v, if there are any, then attend. False if a key or value is beyond the range of the
// pool's kind.
bool attention_of(ThreadPool& threads, Array<const float, 3> q,
                  std::optional<Array<const float, 3>> k, std::optional<Array<const float, 3>> v,
                  const KVPages& pages, const BlockTables& tables, const HeldRotary* rotary,
                  const HeldSelfExtend* extend, float scale, int window, float softcap,
                  const BiasTable& bias, int latent, std::optional<Array<const float, 1>> sinks,
                  Array<float, 2> out) {
  const int64_t tokens = q.shape(0);
  const int heads = (int)q.shape(1), value_dim = v        ? (int)v->shape(2)
                                                 : latent ? latent
                                                          : pages.value_dim;
  need(heads > 0 && heads % pages.kv_heads == 0 && (int)q.shape(2) == pages.head_dim &&
           (!k || ((int)k->shape(1) == pages.kv_heads && (int)k->shape(2) == pages.head_dim)),
       "attention: heads do not fit");
  need(k || !v, "attention: values without keys");
  if (v)
    need((int64_t)v->shape(0) == tokens && (int)v->shape(1) == pages.kv_heads && value_dim > 0 &&
             value_dim == pages.value_dim,
         "attention: values do not fit");
  else if (k || latent)
    need(!pages.value_dim && latent > 0 &&
             latent + (rotary ? 2 * rotary->half : 0) <= pages.head_dim,
         "attention: values do not fit into keys");
  else
    need(value_dim > 0, "attention: pages without values");
  need((!k || (int64_t)k->shape(0) == tokens) && tables.tokens() == tokens &&
           (int64_t)out.shape(0) == tokens && (int64_t)out.shape(1) == (int64_t)heads * value_dim,
       "attention: token counts differ");
  need(tables.pages_needed <= pages.pages, "attention: a page or slot beyond the pool");
  need(window >= 0, "attention: a negative window");
  need(!sinks || (int)sinks->shape(0) == heads, "attention: sinks of other heads");
  need(!rotary || 2 * rotary->half <= pages.head_dim, "attention: rotation wider than the head");
  need(!extend || ((int64_t)extend->stage.size() == tokens &&
                   (!tokens || extend->half() == (rotary ? rotary->half : 0))),
       "attention: Self-Extend of other tokens or another rotation");
  const Rotary no_rotary;
  const SelfExtend no_extend;
  Attention a{q.data(),
              pages,
              tables,
              heads,
              value_dim,
              scale,
              window,
              softcap,
              rotary ? *rotary : no_rotary,
              extend ? *extend : no_extend,
              {},
              sinks ? sinks->data() : nullptr,
              out.data()};
  need(!rotary || rotary->distances >= a.distances(), "attention: rotation table too short");
  a.bias = bias_of(bias, heads, a.distances() - 1);
  nb::gil_scoped_release free_python;
  const float* values = v ? v->data() : nullptr;
  if (k && !store(threads, pages, k->data(), values, tables.slots.data(), tokens)) return false;
  if (tokens) attend(threads, a);
  return true;
}

// Store k and v for later. False as above.
bool store_of(ThreadPool& threads, Array<const float, 3> k, Array<const float, 3> v,
              const KVPages& pages, const BlockTables& tables) {
  const int64_t tokens = k.shape(0);
  need((int)k.shape(1) == pages.kv_heads && (int)k.shape(2) == pages.head_dim &&
           (int)v.shape(1) == pages.kv_heads && (int)v.shape(2) == pages.value_dim,
       "store: heads do not fit");
  need((int64_t)v.shape(0) == tokens && tables.tokens() == tokens, "store: token counts differ");
  need(tables.pages_needed <= pages.pages, "store: a page or slot beyond the pool");
  nb::gil_scoped_release free_python;
  return store(threads, pages, k.data(), v.data(), tables.slots.data(), tokens);
}

// Attend to what is stored alone.
void cross_attention_of(ThreadPool& threads, Array<const float, 3> q, const KVPages& pages,
                        const BlockTables& tables, float scale, Array<float, 2> out) {
  const int64_t tokens = q.shape(0);
  const int heads = (int)q.shape(1);
  need(heads > 0 && heads % pages.kv_heads == 0 && (int)q.shape(2) == pages.head_dim,
       "cross attention: heads do not fit");
  need(pages.value_dim > 0, "cross attention: pages without values");
  need(tables.tokens() == tokens && (int64_t)out.shape(0) == tokens &&
           (int64_t)out.shape(1) == (int64_t)heads * pages.value_dim,
       "cross attention: token counts differ");
  need(tables.pages_needed <= pages.pages, "cross attention: a page beyond the pool");
  const Rotary no_rotary;
  const SelfExtend no_extend;
  const Attention a{q.data(), pages,     tables,    heads, pages.value_dim, scale,     0,
                    0,        no_rotary, no_extend, {},    nullptr,         out.data()};
  nb::gil_scoped_release free_python;
  if (tokens) attend(threads, a);
}

void encoder_attention_of(ThreadPool& threads, Array<const float, 3> q, Array<const float, 3> k,
                          Array<const float, 3> v, Array<const int32_t, 1> starts,
                          const HeldRotary* rotary, const BiasTable& bias, float scale, int window,
                          float softcap, Array<float, 2> out) {
  const int64_t tokens = q.shape(0), sequences = (int64_t)starts.shape(0) - 1;
  const int heads = (int)q.shape(1), kv_heads = (int)k.shape(1), dim = (int)q.shape(2);
  need(heads > 0 && kv_heads > 0 && heads % kv_heads == 0 && dim > 0 && (int)k.shape(2) == dim &&
           (int)v.shape(1) == kv_heads && v.shape(2) > 0,
       "attention: heads do not fit");
  need((int64_t)k.shape(0) == tokens && (int64_t)v.shape(0) == tokens &&
           (int64_t)out.shape(0) == tokens && out.shape(1) == heads * v.shape(2),
       "attention: token counts differ");
  need(sequences >= 0 && starts.data()[0] == 0 && starts.data()[sequences] == tokens,
       "attention: sequences are not all tokens");
  int64_t longest = 0;
  for (int64_t s = 0; s < sequences; s++) {
    need(starts.data()[s] < starts.data()[s + 1], "attention: an empty sequence");
    longest = std::max<int64_t>(longest, starts.data()[s + 1] - starts.data()[s]);
  }
  need(window >= 0, "attention: a negative window");
  need(!rotary || (2 * rotary->half <= dim && rotary->distances >= longest),
       "attention: rotation wider than the head, or its table too short");
  const Rotary no_rotary;
  const EncoderAttention a{q.data(),
                           k.data(),
                           v.data(),
                           starts.data(),
                           sequences,
                           heads,
                           kv_heads,
                           dim,
                           (int)v.shape(2),
                           scale,
                           window,
                           softcap,
                           rotary ? *rotary : no_rotary,
                           bias_of(bias, heads, longest - 1),
                           out.data()};
  nb::gil_scoped_release free_python;
  attend(threads, a);
}

}  // namespace

void bind_attention(nb::module_& m) {
  m.def("encoder_attention", &encoder_attention_of, "threads"_a, "q"_a, "k"_a, "v"_a, "starts"_a,
        "rotary"_a.none(), "bias"_a.none(), "scale"_a, "window"_a, "softcap"_a, "out"_a);
  nb::class_<KVPages>(m, "KVPages").def(nb::init<Array<uint8_t, 2>, int, int, int, int>());
  nb::class_<BlockTables>(m, "BlockTables")
      .def_ro("furthest", &BlockTables::furthest)
      .def_prop_ro("tokens", &BlockTables::tokens);
  m.def("block_tables", &block_tables);
  m.def("store", &store_of, "threads"_a, "k"_a, "v"_a, "pages"_a, "tables"_a);
  m.def("cross_attention", &cross_attention_of, "threads"_a, "q"_a, "pages"_a, "tables"_a,
        "scale"_a, "out"_a);
  nb::class_<HeldRotary>(m, "Rotary")
      .def(nb::init<Array<const float, 3>, Array<const float, 3>, bool, float>());
  nb::class_<HeldSelfExtend>(m, "SelfExtend")
      .def(nb::init<int, std::vector<HeldSelfExtend::Far>, Array<const int32_t, 1>,
                    std::optional<Array<const float, 1>>>(),
           "window"_a, "far"_a, "stage"_a, "factors"_a.none());
  m.def("attention", &attention_of, "threads"_a, "q"_a, "k"_a.none(), "v"_a.none(), "pages"_a,
        "tables"_a, "rotary"_a.none(), "extend"_a.none(), "scale"_a, "window"_a, "softcap"_a,
        "bias"_a.none(), "latent"_a, "sinks"_a.none(), "out"_a);
}
