// The search of group.h with most of the work in tiles: as screen.h, after tiles.h.

namespace VARIANT {

// Vectors whose largest scores are kept for a span of units, and units in a span.
constexpr int BATCH = COLUMNS * TILE, SPAN_UNITS = 1024;
// Bytes of codes that stay in a core's first cache as tiles of vectors pass.
constexpr int64_t NEAR_CACHE = 24 << 10;

// What is needed for a batch of vectors: a place for each thing, and the bytes of all.
struct TileRoom {
    int64_t units, most;
    int64_t scratch, largest, list, size;

    explicit TileRoom(const Codes &codes)
    {
        units = codes.groups * PAIR < SPAN_UNITS ? codes.groups * PAIR : SPAN_UNITS;
        most = BATCH * (units / 16 + 2);
        scratch = BATCH * steps_of(codes.dim) * SLOTS * sizeof(int16_t);
        largest = scratch + TILE * TILE * sizeof(float);
        list = largest + COLUMNS * units * sizeof(Floats);
        size = (list + most * sizeof(Unit) + 63) / 64 * 64;
    }
};

static int64_t tile_room(const Codes &codes) { return TileRoom(codes).size; }

// List the units of a span whose scores come within the margin of a vector's largest so far, `top`.
TILE_TARGET static int64_t passing_tiles(
    const Codes &codes, const Rounded *columns, const Floats *largest, int64_t first, int64_t units, const Floats *top,
    Unit *list, int64_t most)
{
    // What two numbers of 8 bits leave out of an offset.
    const float left_out = apart(codes.dim) ? 0 : 0x1p-17f * (float)(codes.longest * codes.longest);
    Floats least[COLUMNS];
    for (int column = 0; column < COLUMNS; column++)
        least[column] = top[column] - margin(columns[column], top[column], codes, left_out);
    constexpr int WORDS = COLUMNS * TILE / 64;
    int64_t count = 0;
    for (int64_t unit = 0; unit < units; unit++) {
        uint64_t near[WORDS] = {};
#pragma GCC unroll 8
        for (int column = 0; column < COLUMNS; column++) {
            const uint64_t passes = AT_LEAST(largest[unit * COLUMNS + column], least[column]);
            near[column * TILE / 64] |= passes << column * TILE % 64;
        }
        for (int word = 0; word < WORDS; word++)
            for (uint64_t bits = near[word]; bits && count < most; bits &= bits - 1)
                list[count++] = {word * 64 + __builtin_ctzll(bits), (first + unit) * TILE};
    }
    return count;
}

TILE_TARGET static void configure_tiles()
{
    struct alignas(64) {
        uint8_t palette = 1, start = 0, reserved[14] = {};
        uint16_t bytes[16] = {};
        uint8_t rows[16] = {};
    } shape;
    for (int tile = 0; tile < 8; tile++) {
        shape.bytes[tile] = SLOTS * sizeof(int16_t);
        shape.rows[tile] = TILE;
    }
    asm volatile("" ::"r"(&shape) : "memory");
    _tile_loadconfig(&shape);
}

// Lay out the vectors [start, stop); false if one is too long for that.
TILE_TARGET static bool pack_batch(const Search &search, int64_t start, int64_t stop, int16_t *tiles, Rounded *columns)
{
    const int64_t dim = search.codes.dim, size = steps_of(dim) * TILE_SIZE;
    bool fits = true;
    for (int column = 0; column < COLUMNS; column++) {
        const int64_t first = start + column * TILE, rest = stop - first, count = rest < TILE ? rest : TILE;
        if (count > 0)
            columns[column] = pack_columns(search.vectors + first * dim, count, dim, tiles + column * size);
        // Nothing comes within the margin of what fills up the last columns, whatever that is.
        for (int lane = 0; lane < TILE; lane++)
            if (lane >= count)
                columns[column].square[lane] = NAN;
            else
                fits = fits && columns[column].square[lane] <= LONGEST * LONGEST;
    }
    return fits;
}

// As screen.
TILE_TARGET static int64_t screen_tiles(const Search &search, int64_t begin, int64_t end, char *memory)
{
    const Codes &codes = search.codes;
    const TileRoom room(codes);
    const int64_t dim = codes.dim, size = unit_size(dim), all = codes.groups * PAIR;
    const int64_t fit = NEAR_CACHE / (size * (int64_t)sizeof(int16_t)) / PAIR * PAIR, part = fit < PAIR ? PAIR : fit;
    int16_t *tiles = (int16_t *)memory;
    float *scratch = (float *)(memory + room.scratch);
    Floats *largest = (Floats *)(memory + room.largest);
    Unit *list = (Unit *)(memory + room.list);
    // After a failure the next `pause` batches go without.
    int pause = 0, wait = 0;
    int64_t without = 0;
    configure_tiles();
    for (int64_t start = begin; start < end; start += BATCH) {
        const int64_t stop = end - start < BATCH ? end : start + BATCH, used = (stop - start + TILE - 1) / TILE;
        Floats top[COLUMNS];
        Rounded columns[COLUMNS] = {};
        bool left = wait || !codes.moderate();
        wait -= wait > 0;
        std::fill(top, top + COLUMNS, Floats{} - INFINITY);
        left = left || !pack_batch(search, start, stop, tiles, columns);
        for (int64_t span = 0; span < all && !left; span += room.units) {
            const int64_t units = all - span < room.units ? all - span : room.units;
            for (int64_t first = 0; first < units; first += part)
                for (int column = 0; column < used; column += PAIR)
                    tile_scores(
                        tiles + column * steps_of(dim) * TILE_SIZE, steps_of(dim), apart(dim),
                        (const int16_t *)codes.rounded + (span + first) * size,
                        (units - first < part ? units - first : part) / PAIR, scratch,
                        largest + first * COLUMNS + column, top + column);
            const int64_t count = passing_tiles(codes, columns, largest, span, units, top, list, room.most);
            left = count == room.most;
            if (!left)
                exact_scores(
                    codes, search.vectors + start * dim, list, count, search.scores + start, search.nearest + start);
            pause = !left ? 0 : pause < 16 ? 2 * pause + 1 : pause;
            wait = pause;
        }
        if (left) {
            search.plain(start, stop);
            without += stop - start;
        }
    }
    _tile_release();
    return without;
}

}  // namespace VARIANT
