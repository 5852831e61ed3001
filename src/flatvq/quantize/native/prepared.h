// What a variant makes of codes before it sees a vector, and what is kept of that from one search to the next.
//
// A codebook that is trained no longer is searched over and over, and where vectors are few, as those of one image are,
// most of a search would go into its codes. So what was made of codes that come again is kept beside a copy of them,
// and is taken where they are the same, bit by bit. Codes in training differ at each search: nothing is kept of them.

#include <array>
#include <memory>
#include <mutex>
#include <new>

namespace {

// Bytes that are kept in all, of how many codebooks at most, and how many codebooks are recognized.
constexpr int64_t KEPT_BYTES = 64 << 20;
constexpr int KEPT = 16, RECOGNIZED = 64;

class Prepared {
    const Variant &variant;
    const int64_t k, dim, width, count, groups, size;
    const uint64_t mark;
    Array<float> panels, offsets, aside, copy;
    Array<char> rounded;

public:
    const std::unique_ptr<Tree> tree;  // where the variant prunes
    Codes codes;

    // With a copy of the codes if they seem to come again. Null if there is no memory for it.
    static std::shared_ptr<const Prepared> make(const Variant &variant, const Task &task)
    {
        std::shared_ptr<Prepared> made(new (std::nothrow) Prepared(variant, task));
        return made && made->fill(task) ? made : nullptr;
    }

    bool seems_of(const Variant &other, const Task &task) const
    {
        return &variant == &other && k == task.k && dim == task.dim && mark == task.mark;
    }

    bool is_of(const Task &task) const { return !std::memcmp(copy.data, task.codes, k * dim * sizeof(float)); }

    int64_t bytes() const
    {
        const int64_t numbers = count * width * (dim + 1) + size + k * dim + (tree ? tree->numbers() : 0);
        return numbers * (int64_t)sizeof(float) + (groups ? size * variant.bytes(dim) : 0);
    }

private:
    Prepared(const Variant &variant, const Task &task)
        : variant(variant), k(task.k), dim(task.dim), width(variant.chunk ? LEAF : variant.panel),
          count((k + width - 1) / width),
          groups(variant.group && dim <= MOST_DIM ? (k + variant.group - 1) / variant.group : 0),
          size(groups * variant.group), mark(task.mark), panels(count * width * dim), offsets(count * width),
          aside(size), copy(task.again ? k * dim : 0), rounded(groups ? size * variant.bytes(dim) : 0),
          tree(variant.chunk ? new (std::nothrow) Tree(k, dim) : nullptr),
          codes{k, dim, count, panels.data, offsets.data, groups, rounded.data, aside.data, 0, 0, 0}
    {
    }

    bool fill(const Task &task)
    {
        if (!panels.data || !offsets.data || !aside.data || !copy.data || !rounded.data || (variant.chunk && !tree))
            return false;
        // From the copy where there is one: whatever another thread does to the codes, it stays that of the copy.
        Task from = task;
        if (task.again)
            from.codes = (const float *)std::memcpy(copy.data, task.codes, k * dim * sizeof(float));
        if (tree && !Growth(variant, *tree).over(from.codes, from.pieces))
            return false;
        pack(from, width, tree ? tree->order.data : nullptr, codes);
        if (codes.moderate()) {
            float lost = 0;
#pragma omp parallel for num_threads(from.pieces) reduction(max : lost) if (from.pieces > 1)
            for (int64_t group = 0; group < groups; group++)
                lost = std::max(lost, variant.pack(from.codes, group, codes));
            codes.lost = std::sqrt(lost);
        }
        return true;
    }
};

class Shelf {
public:
    static Shelf &only()
    {
        // Never destroyed: a thread may still search as the process ends.
        static Shelf &shelf = *new Shelf;
        return shelf;
    }

    // Write down in a task whether codes with such a mark were searched before.
    void recognize(Task &task)
    {
        task.mark = mark_of(task);
        const std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);
        if (!lock)
            return;
        task.again = std::find(marks.begin(), marks.end(), task.mark) != marks.end();
        if (!task.again)
            marks[next++ % RECOGNIZED] = task.mark;
    }

    // What the variant makes of the codes of a task, or made of them before; null if there is no memory for it.
    std::shared_ptr<const Prepared> prepare(const Variant &variant, const Task &task)
    {
        const std::shared_ptr<const Prepared> found = task.again ? find(variant, task) : nullptr;
        if (found && found->is_of(task))
            return found;
        std::shared_ptr<const Prepared> made = Prepared::make(variant, task);
        if (task.again && made && made->bytes() <= KEPT_BYTES)
            put(made, found);
        return made;
    }

    // Bytes that are kept.
    int64_t bytes()
    {
        const std::lock_guard<std::mutex> lock(mutex);
        return sum();
    }

private:
    // No search waits for it: a process that forks while another thread holds it would do so for ever.
    std::mutex mutex;
    std::array<std::shared_ptr<const Prepared>, KEPT> kept;  // the last used first, and empty places last
    std::array<uint64_t, RECOGNIZED> marks{};
    unsigned next = 0;

    // A few of the values, mixed.
    static uint64_t mark_of(const Task &task)
    {
        constexpr int64_t LOOKED_AT = 64;
        uint64_t mark = (uint64_t)task.k;
        for (int64_t i = 0; i < LOOKED_AT; i++) {
            uint32_t bits;
            std::memcpy(&bits, task.codes + task.k * task.dim * i / LOOKED_AT, sizeof bits);
            mark = mixed(mark, bits);
        }
        return mark;
    }

    std::shared_ptr<const Prepared> find(const Variant &variant, const Task &task)
    {
        const std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);
        for (auto place = kept.begin(); lock && place < kept.end() && *place; place++)
            if ((*place)->seems_of(variant, task)) {
                std::rotate(kept.begin(), place, place + 1);
                return kept.front();
            }
        return nullptr;
    }

    // In place of what was made of such codes before they changed; or else in an empty one, or of what is oldest.
    void put(const std::shared_ptr<const Prepared> &made, const std::shared_ptr<const Prepared> &before)
    {
        const std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);
        if (!lock)
            return;
        const auto place = std::min(std::find(kept.begin(), kept.end(), before), kept.end() - 1);
        *place = made;
        std::rotate(kept.begin(), place, place + 1);
        for (auto last = kept.rbegin(); sum() > KEPT_BYTES; last++)
            last->reset();
    }

    int64_t sum() const
    {
        return std::accumulate(kept.begin(), kept.end(), (int64_t)0, [](int64_t bytes, const auto &each) {
            return bytes + (each ? each->bytes() : 0);
        });
    }
};

}  // namespace
