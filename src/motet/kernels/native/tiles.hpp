// The matrix unit (AMX): 8 tiles of 16 rows × 64 bytes. Compiled with MOTET_EMULATE_TILES, the same
// few operations run as plain loops, so that the kernels made of them are tested on any machine.
#pragma once
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

namespace {

// Tiles 0 … 3 hold sums, 16 rows × 16 int32; 4 and 5 hold activations, 16 rows × `columns` bytes;
// 6 and 7 hold weights, columns / 4 rows × 16 columns × 4 bytes.
struct __attribute__((packed)) TileShapes {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
inline TileShapes tile_shapes(int columns) {
  TileShapes s;
  memset(&s, 0, sizeof s);
  s.palette = 1;
  for (int i = 0; i < 8; i++) {
    s.rows[i] = (uint8_t)(i < 6 ? 16 : columns / 4);
    s.row_bytes[i] = (uint16_t)(i == 4 || i == 5 ? columns : 64);
  }
  return s;
}

#if MOTET_EMULATE_TILES
struct Tiles {
  explicit Tiles(int columns) : shapes(tile_shapes(columns)) {}
  template <int i>
  void zero() {
    memset(data[i], 0, sizeof data[i]);
  }
  template <int i>
  void load(const void* p, int64_t stride) {
    for (int r = 0; r < shapes.rows[i]; r++)
      memcpy(data[i][r], (const char*)p + r * stride, shapes.row_bytes[i]);
  }
  template <int i>
  void store(void* p) const {
    for (int r = 0; r < shapes.rows[i]; r++) memcpy((char*)p + r * 64, data[i][r], 64);
  }
  // Sums c += signed bytes a · unsigned bytes b.
  template <int c, int a, int b>
  void dot() {
    for (int m = 0; m < 16; m++)
      for (int n = 0; n < 16; n++) {
        int32_t sum;
        memcpy(&sum, data[c][m] + 4 * n, 4);
        for (int k = 0; k < shapes.row_bytes[a]; k++)
          sum += (int8_t)data[a][m][k] * (int)data[b][k / 4][4 * n + k % 4];
        memcpy(data[c][m] + 4 * n, &sum, 4);
      }
  }
  TileShapes shapes;
  uint8_t data[8][16][64];
};
inline bool tiles_allowed() { return true; }
#else
struct Tiles {
  explicit Tiles(int columns) {
    // Volatile, since GCC 12 drops the stores that fill a configuration.
    alignas(64) volatile TileShapes shapes;
    const TileShapes wanted = tile_shapes(columns);
    for (size_t i = 0; i < sizeof wanted; i++)
      ((volatile uint8_t*)&shapes)[i] = ((const uint8_t*)&wanted)[i];
    asm volatile("ldtilecfg %0" : : "m"(shapes) : "memory");
  }
  ~Tiles() { asm volatile("tilerelease"); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
  // Spelled out, since GCC's intrinsics take no template constants for the registers.
  template <int i>
  void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(i));
  }
  template <int i>
  void load(const void* p, int64_t stride) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(i), "r"(p), "r"(stride) : "memory");
  }
  template <int i>
  void store(void* p) const {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(i), "r"(p), "r"((int64_t)64) : "memory");
  }
  template <int c, int a, int b>
  void dot() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(c), "i"(a), "i"(b));
  }
};
// Linux lends the matrix unit to a process that asks for it.
inline bool tiles_allowed() {
  constexpr int request_permission = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}
#endif

}  // namespace
