// Memory for arrays that vector instructions read.

#ifndef FLATVQ_MEMORY_H
#define FLATVQ_MEMORY_H

#include <cstdint>
#include <cstdlib>
#include <new>

namespace flatvq {

// An uninitialized array that starts at a cache line. Throws std::bad_alloc if there is not enough memory.
template <typename T> class Buffer {
public:
    explicit Buffer(int64_t count) : values(allocate(count)) {}
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer() { std::free(values); }

    T *data() { return values; }
    const T *data() const { return values; }
    T &operator[](int64_t i) { return values[i]; }
    const T &operator[](int64_t i) const { return values[i]; }

private:
    static constexpr int64_t LINE = 64;

    static T *allocate(int64_t count)
    {
        const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
        void *memory = std::aligned_alloc(LINE, static_cast<size_t>((bytes + LINE) / LINE * LINE));
        if (!memory)
            throw std::bad_alloc();
        return static_cast<T *>(memory);
    }

    T *values;
};

}  // namespace flatvq

#endif
