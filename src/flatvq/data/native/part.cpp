// Decodes a region of a JPEG with Pillow's libjpeg. The entropy-coded bits outside of the region are decoded too,
// to detect damage, but they are neither transformed nor colour-converted, which saves a third of the time.

#include <dlfcn.h>

#include <algorithm>

#include "libjpeg.h"

namespace flatvq {
namespace {

// Columns to either side of a pixel that influence its colour, which is stored at half the width and smoothed.
constexpr std::int64_t kReach = 2;
constexpr int kRowsAtOnce = 16;

// libjpeg requires that an error handler does not return.
struct Errors {
    ErrorManager manager;
    std::jmp_buf place;
};

void jump(Decompress* image) { std::longjmp(reinterpret_cast<Errors*>(image->errors)->place, 1); }

void jump_if_damaged(Decompress* image, int level) {
    if (level < 0) jump(image);
}

void report_to(Errors& errors, Decompress& image, const Libjpeg& libjpeg) {
    image.errors = libjpeg.standard_errors(&errors.manager);
    errors.manager.error_exit = jump;
    errors.manager.emit_message = jump_if_damaged;
}

struct Part {
    std::int64_t top, left, height, width;
};

void read_until(unsigned row, Decompress& image, const Libjpeg& libjpeg, std::uint8_t* first, std::int64_t stride) {
    std::uint8_t* rows[kRowsAtOnce];
    while (image.output_row < row) {
        const unsigned count = std::min<unsigned>(row - image.output_row, kRowsAtOnce);
        for (unsigned i = 0; i < count; ++i) rows[i] = first + (image.output_row + i) * stride;
        libjpeg.read_rows(&image, rows, count);
    }
}

void decode(Decompress& image, const Libjpeg& libjpeg, const Part& part, std::uint8_t* pixels) {
    image.out_colour_space = kColourRgb;  // libjpeg converts three colours and greyscale to RGB, and rejects others
    libjpeg.start(&image);
    const std::int64_t all = image.output_width, stride = 3 * all;
    const std::int64_t end = std::min(all, part.left + part.width + kReach);
    unsigned left = std::max<std::int64_t>(0, part.left - kReach), width = end - left;
    // libjpeg decodes whole blocks, so it may move the first column further left.
    if (width < all) libjpeg.crop(&image, &left, &width);
    if (part.top > 0) libjpeg.skip_rows(&image, part.top);
    read_until(part.top + part.height, image, libjpeg, pixels + 3 * left, stride);
    // libjpeg does not decode rows that are skipped up to the end of the image, so the last row is read.
    const unsigned below = image.output_height - image.output_row;
    if (below > 1) libjpeg.skip_rows(&image, below - 1);
    read_until(image.output_height, image, libjpeg, pixels + 3 * left, stride);
    libjpeg.finish(&image);
}

template <typename Function>
bool find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    return function;
}

}  // namespace

extern "C" {

// Finds libjpeg in a loaded library or in its dependencies. Returns null if it is missing, cannot decode regions,
// or has another structure layout. The result is never freed.
const Libjpeg* flatvq_libjpeg(void* library) {
    Libjpeg libjpeg;
    Errors errors;
    Decompress image;
    const bool found =
        find(library, "jpeg_std_error", libjpeg.standard_errors) &&
        find(library, "jpeg_CreateDecompress", libjpeg.create) &&
        find(library, "jpeg_mem_src", libjpeg.read_from_memory) &&
        find(library, "jpeg_read_header", libjpeg.read_header) &&
        find(library, "jpeg_start_decompress", libjpeg.start) &&
        find(library, "jpeg_crop_scanline", libjpeg.crop) &&
        find(library, "jpeg_skip_scanlines", libjpeg.skip_rows) &&
        find(library, "jpeg_read_scanlines", libjpeg.read_rows) &&
        find(library, "jpeg_finish_decompress", libjpeg.finish) &&
        find(library, "jpeg_destroy_decompress", libjpeg.destroy);
    if (!found) return nullptr;
    report_to(errors, image, libjpeg);
    if (setjmp(errors.place)) return nullptr;
    libjpeg.create(&image, kVersion, sizeof image);
    libjpeg.destroy(&image);
    return new Libjpeg(libjpeg);
}

// Decodes a region of a JPEG of the given size, in colour or greyscale, into `pixels`, [height, width, 3], which
// are undefined outside of the region. Returns 0 if the file is damaged or does not match.
int flatvq_jpeg_part(const Libjpeg* libjpeg, const std::uint8_t* file, std::int64_t bytes, std::int64_t height,
                     std::int64_t width, std::int64_t top, std::int64_t left, std::int64_t rows,
                     std::int64_t columns, std::uint8_t* pixels) {
    Errors errors;
    Decompress image;
    report_to(errors, image, *libjpeg);
    int decoded = 0;
    if (!setjmp(errors.place)) {
        libjpeg->create(&image, kVersion, sizeof image);
        libjpeg->read_from_memory(&image, file, bytes);
        libjpeg->read_header(&image, 1);
        if (image.image_width == width && image.image_height == height) {
            decode(image, *libjpeg, {top, left, rows, columns}, pixels);
            decoded = 1;
        }
    }
    libjpeg->destroy(&image);
    return decoded;
}

}  // extern "C"

}  // namespace flatvq
