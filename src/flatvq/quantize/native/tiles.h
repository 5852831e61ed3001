// Scores in tiles, the matrices that AMX multiplies: included like integers.h, after screen.h.
//
// Vectors and codes are rounded to bfloat16, numbers of 8 bits of precision whose products float32 holds exactly. A
// row of codes is [e | offset], the offset in two such numbers, and a column of vectors [z | 1 1]: their product is the
// score z e - |e|^2 / 2. Where that would take a tile more, the offsets are in a tile of their own instead, to which
// the products are added. A unit is the codes of a tile, and of its scores only the largest is kept.
//
// It needs, beside what screen.h does, TILE_TARGET (the attribute).

namespace VARIANT {

// Rows of a tile; numbers of 16 bits in a row; and all of a tile's.
constexpr int TILE = 16, SLOTS = 32, TILE_SIZE = TILE * SLOTS;
// Tiles of codes that are multiplied by as many of vectors at once: there are 8 tiles, and 4 of them hold the scores.
constexpr int PAIR = 2;
// Tiles of vectors whose largest scores lie side by side.
constexpr int COLUMNS = 8;

typedef int16_t Halves __attribute__((vector_size(2 * LANES)));

static_assert(DEPTH == TILE && LANES == TILE, "a unit is a tile of codes, and a register a row of scores");

// Numbers that a row begins with, and tiles side by side that it takes; whether the offsets do not fit in.
constexpr int64_t even(int64_t dim) { return dim + dim % 2; }
constexpr int64_t steps_of(int64_t dim) { return (even(dim) + SLOTS - 1) / SLOTS; }
constexpr bool apart(int64_t dim) { return even(dim) % SLOTS == 0; }
// Numbers of 16 bits that a unit takes.
constexpr int64_t unit_size(int64_t dim) { return (steps_of(dim) + apart(dim)) * TILE_SIZE; }

static_assert(TILE_SIZE * sizeof(int16_t) == TILE * TILE * sizeof(float), "as many bytes as a tile of scores");

static int64_t tile_bytes(int64_t dim) { return unit_size(dim) / TILE * (int64_t)sizeof(int16_t); }

// The bits of the nearest bfloat16, as those of a float.
template <typename Bits> static inline __attribute__((always_inline)) Bits rounded(const Bits &bits)
{
    return (bits + 0x7fff + (bits >> 16 & 1)) & ~0xffff;
}

// The bits of the nearest bfloat16 to a number, which becomes the rest.
static inline int16_t split(float &number)
{
    int32_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    bits = rounded(bits);
    float nearest;
    std::memcpy(&nearest, &bits, sizeof nearest);
    number -= nearest;
    return (int16_t)(bits >> 16);
}

// Lay out a pair of tiles of the codes [k, dim], and return the most that rounding takes off one, squared.
TILE_TARGET static float pack_tiles(const float *vectors, int64_t pair, const Codes &codes)
{
    const int64_t dim = codes.dim, size = unit_size(dim);
    float most = 0;
    for (int64_t unit = pair * PAIR; unit < (pair + 1) * PAIR; unit++) {
        int16_t *tiles = (int16_t *)codes.rounded + unit * size;
        std::memset(tiles, 0, size * sizeof *tiles);
        for (int64_t code = unit * TILE; code < (unit + 1) * TILE; code++) {
            const auto place = [&](int64_t slot) {
                return tiles + slot / SLOTS * TILE_SIZE + code % TILE * SLOTS + slot % SLOTS;
            };
            Floats lost = {}, square = {};
            for (int64_t d = 0; d < dim && code < codes.k; d += LANES) {
                const Floats exact = FIRST(vectors + code * dim + d, dim - d < LANES ? dim - d : LANES);
                const Ints bits = rounded((Ints)exact);
                const Floats now = (Floats)bits, rest = exact - now;
                square += now * now;
                lost += rest * rest;
                const Halves halves = __builtin_convertvector(bits >> 16, Halves);
                std::memcpy(place(d), &halves, sizeof halves);
            }
            most = std::max(most, folded<SUM, LANES>((const float *)&lost));
            // What fills up the last tiles: zeros, with an offset below all scores.
            float offset = code < codes.k ? folded<SUM, LANES>((const float *)&square) / -2 : -INFINITY;
            if (apart(dim))
                ((Floats *)(tiles + steps_of(dim) * TILE_SIZE))[code % TILE] = Floats{} + offset;
            else {
                int16_t *last = place(even(dim));
                last[0] = split(offset);
                last[1] = code < codes.k ? split(offset) : 0;
            }
        }
    }
    return most;
}

// Lay out TILE vectors [count, dim], or fewer and zeros, as columns.
TILE_TARGET static Rounded pack_columns(const float *vectors, int64_t count, int64_t dim, int16_t *tiles)
{
    Ints *rows = (Ints *)tiles;
    Ints starts;
    for (int lane = 0; lane < TILE; lane++)
        starts[lane] = (int32_t)(lane * dim);
    const __mmask16 there = (__mmask16)((1u << count) - 1);
    Rounded columns = {};
    for (int64_t d = 0; d < even(dim); d += 2) {
        // A dimension of all vectors, and the next.
        Ints pair[2] = {};
        for (int64_t i = 0; i < 2 && d + i < dim; i++) {
            const Floats exact = (Floats)_mm512_mask_i32gather_ps(
                _mm512_setzero_ps(), there, (__m512i)starts, vectors + d + i, sizeof(float));
            pair[i] = rounded((Ints)exact);
            const Floats rest = exact - (Floats)pair[i];
            columns.square += (Floats)pair[i] * (Floats)pair[i];
            columns.lost += rest * rest;
        }
        rows[d / 2] = pair[1] | (pair[0] >> 16 & 0xffff);
    }
    for (int64_t row = even(dim) / 2; row < steps_of(dim) * TILE; row++)
        rows[row] = row == even(dim) / 2 ? Ints{} + 0x3f803f80 : Ints{};  // two ones
    return columns;
}

// The largest of a tile's rows, column by column.
TILE_TARGET static inline __attribute__((always_inline)) Floats largest_row(const float *tile)
{
    const Floats *rows = (const Floats *)tile;
    Floats most[4] = {rows[0], rows[1], rows[2], rows[3]};
#pragma GCC unroll 4
    for (int row = 4; row < TILE; row += 4)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            most[i] = GREATER(most[i], rows[row + i]);
    return GREATER(GREATER(most[0], most[1]), GREATER(most[2], most[3]));
}

// The largest scores of the units of `pairs` pairs of tiles, for a pair of tiles of vectors: [units, COLUMNS], of which
// two columns are written; and of these the largest so far, `top`.
TILE_TARGET static void tile_scores(
    const int16_t *vectors, int64_t steps, bool apart, const int16_t *codes, int64_t pairs, float *scratch,
    Floats *largest, Floats *top)
{
    const int64_t size = (steps + apart) * TILE_SIZE;
    const int16_t *here = codes;
    Floats best[PAIR] = {};
    // Compilers may not know that tiles are loaded from what was written.
    asm volatile("" ::: "memory");
    // A tile is stored, and read again, only as the next scores are computed, so that the units for tiles and for
    // registers are busy at once. The first ones that are stored mean nothing, and others take their place. All are
    // stored in one place: loads whose addresses are equal to a store's but for multiples of 4,096 wait for it.
    Floats *out = largest;
#define NEXT(scores, codes, vectors, unit, column)                                                                   \
    {                                                                                                                \
        _tile_stored(scores, scratch, 64);                                                                           \
        if (apart)                                                                                                   \
            _tile_loadd(scores, here + unit * size + steps * TILE_SIZE, 64);                                         \
        else                                                                                                         \
            _tile_zero(scores);                                                                                      \
        _tile_dpbf16ps(scores, codes, vectors);                                                                      \
        const Floats most = largest_row(scratch);                                                                    \
        out[unit * COLUMNS + column] = most;                                                                         \
        best[column] = GREATER(best[column], most);                                                                  \
    }
    for (int64_t pair = 0; pair < pairs; pair++) {
        here = codes + pair * PAIR * size;
        for (int64_t step = 0; step < steps; step++) {
            if (steps > 1 || pair == 0) {
                _tile_loadd(6, vectors + step * TILE_SIZE, 64);
                _tile_loadd(7, vectors + (steps + step) * TILE_SIZE, 64);
            }
            _tile_loadd(4, here + step * TILE_SIZE, 64);
            _tile_loadd(5, here + size + step * TILE_SIZE, 64);
            if (step == 0) {
                NEXT(0, 4, 6, 0, 0)
                NEXT(1, 5, 6, 1, 0)
                NEXT(2, 4, 7, 0, 1)
                NEXT(3, 5, 7, 1, 1)
            } else {
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 5, 6);
                _tile_dpbf16ps(2, 4, 7);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
        out = largest + pair * PAIR * COLUMNS;
        if (pair == 0)
            std::copy(top, top + PAIR, best);
    }
    NEXT(0, 4, 6, 0, 0)
    NEXT(1, 5, 6, 1, 0)
    NEXT(2, 4, 7, 0, 1)
    NEXT(3, 5, 7, 1, 1)
#undef NEXT
    std::copy(best, best + PAIR, top);
}

}  // namespace VARIANT
