// A device for PyTorch, "scripted", whose memory is the host's and whose allocator keeps its books.
//
// There are two of it. Each takes segments of 2 MiB from the device, or one of a tensor's own size if
// that is larger; cuts them in the order of need, in steps of 512 bytes; and gives none back. A device
// has FAKE_TORCH_BYTES; beyond that it is out of memory. All of what torch.accelerator.memory_stats
// says of it can be worked out by hand.

#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstdlib>
#include <map>

namespace {

constexpr size_t SEGMENT = 2 << 20, STEP = 512;
constexpr c10::DeviceIndex DEVICES = 2;
constexpr auto KIND = c10::DeviceType::PrivateUse1;
constexpr auto ALL = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);

struct Segment {
  char* memory;
  size_t size, cut = 0, live = 0;
};

struct Books {
  c10::CachingDeviceAllocator::DeviceStats stats;
  std::vector<Segment> segments;
  std::map<void*, std::pair<size_t, size_t>> blocks; // by address: segment, size

  void* take(size_t bytes) {
    bytes = (bytes + STEP - 1) / STEP * STEP;
    size_t at = 0;
    while (at < segments.size() && segments[at].size - segments[at].cut < bytes) at++;
    if (at == segments.size()) add(std::max(bytes, SEGMENT));
    Segment& segment = segments[at];
    void* block = segment.memory + segment.cut;
    segment.cut += bytes;
    segment.live += bytes;
    blocks[block] = {at, bytes};
    stats.allocated_bytes[ALL].increase(bytes);
    count_split();
    return block;
  }

  void give(void* block) {
    auto [at, bytes] = blocks.at(block);
    blocks.erase(block);
    segments[at].live -= bytes;
    if (segments[at].live == 0) segments[at].cut = 0;
    stats.allocated_bytes[ALL].decrease(bytes);
    count_split();
  }

 private:
  void add(size_t bytes) {
    const char* limit = std::getenv("FAKE_TORCH_BYTES");
    auto reserved = static_cast<size_t>(stats.reserved_bytes[ALL].current);
    if (limit != nullptr && reserved + bytes > std::strtoull(limit, nullptr, 10)) {
      stats.num_alloc_retries++;
      stats.num_ooms++;
      TORCH_CHECK_WITH(OutOfMemoryError, false, "scripted device out of memory");
    }
    segments.push_back({static_cast<char*>(std::malloc(bytes)), bytes});
    stats.reserved_bytes[ALL].increase(bytes);
  }

  void count_split() {
    int64_t split = 0;
    for (const Segment& each : segments)
      if (each.live != 0) split += static_cast<int64_t>(each.size - each.live);
    auto& stat = stats.inactive_split_bytes[ALL];
    if (split > stat.current) stat.increase(split - stat.current);
    if (split < stat.current) stat.decrease(stat.current - split);
  }
};

Books books[DEVICES];
c10::DeviceIndex current = 0;
bool used = false;

void give(void* block) {
  if (block == nullptr) return;
  for (Books& each : books)
    if (each.blocks.count(block) != 0) each.give(block);
}

struct Allocator final : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t bytes) override {
    used = true;
    void* block = bytes == 0 ? nullptr : books[current].take(bytes);
    return {block, block, give, c10::Device(KIND, current)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return give; }
  void copy_data(void* to, const void* from, size_t bytes) const override { memcpy(to, from, bytes); }
  bool initialized() override { return used; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex index) override {
    return books[index].stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex index) override {
    books[index].stats.allocated_bytes[ALL].reset_peak();
    books[index].stats.reserved_bytes[ALL].reset_peak();
  }
};

Allocator allocator;
REGISTER_ALLOCATOR(KIND, &allocator)

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return used; }
  c10::DeviceIndex deviceCount() const override { return DEVICES; }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return KIND; }
  c10::Device exchangeDevice(c10::Device device) const override {
    c10::Device before(KIND, current);
    current = device.index();
    return before;
  }
  c10::Device getDevice() const override { return {KIND, current}; }
  void setDevice(c10::Device device) const override { current = device.index(); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current = device.index(); }
  c10::Stream getStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return DEVICES; }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

const bool registered = [] {
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  return true;
}();

} // namespace
