// What is remembered of searches from one to the next.

#include <algorithm>
#include <atomic>

namespace {

// A variant was of no use to a search of some shape: the next `pause` go without, each time twice as many. To try costs
// up to a third of a search more, and codes do not change much from one search to the next.
struct Patience {
    static constexpr int FIRST_PAUSE = 7, LONGEST_PAUSE = 255;

    std::atomic<int> pause{0}, wait{0};

    static Patience &with(const Task &task, int variant)
    {
        static Patience all[1024];
        uint64_t key = 0;
        for (const int64_t size : {task.n, task.k, task.dim, (int64_t)variant})
            key = mixed(key, (uint64_t)size);
        return all[key >> 54];
    }

    bool over() const { return wait <= 0; }

    void pass() { wait--; }

    void note(bool useful)
    {
        const int longer = useful ? 0 : std::min(std::max(2 * pause + 1, FIRST_PAUSE), LONGEST_PAUSE);
        pause = longer;
        wait = longer;
    }
};

}  // namespace
