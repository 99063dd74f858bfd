// Worker threads that share numbered jobs. Results must not depend on which thread takes which job.
#pragma once

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <type_traits>

class ThreadPool {
public:
    // Returns the process's pool. It is never destroyed. A forked child gets its own pool, because
    // it has none of its parent's threads.
    static ThreadPool& get() {
        static std::atomic<ThreadPool*> current{nullptr};
        ThreadPool* pool = current.load();
        while (!pool || pool->process_ != getpid()) {
            ThreadPool* fresh = new ThreadPool();
            if (current.compare_exchange_strong(pool, fresh)) return *fresh;
            delete fresh;  // another thread was first; it has no workers yet
        }
        return *pool;
    }

    // Calls body(job) for every job in [0, jobs) and waits for all. At most `threads` threads work,
    // this one included.
    template <class Body>
    void run(int64_t jobs, int threads, Body&& body) {
        if (threads > MAX_THREADS) threads = MAX_THREADS;
        if (threads > jobs) threads = int(jobs);
        if (threads <= 1) {
            for (int64_t job = 0; job < jobs; job++) body(job);
            return;
        }

        // One caller at a time. Set the call, then wake the workers.
        std::lock_guard<std::mutex> turn(turn_);
        threads = 1 + start_workers(threads - 1);
        call_ = [](void* context, int64_t job) {
            (*static_cast<std::remove_reference_t<Body>*>(context))(job);
        };
        context_ = &body;
        jobs_ = jobs;
        next_.store(0);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            helpers_ = threads - 1;
            round_.fetch_add(1);
        }
        wake_.notify_all();

        // Work along. A worker that has not woken up by the end is not waited for. One that has may
        // share its core with another program, so the wait ends in sleep.
        work();
        {
            std::lock_guard<std::mutex> lock(mutex_);
            helpers_ = 0;
        }
        for (int spin = 0; spin < SPINS && busy_.load() != 0; spin++) pause();
        if (busy_.load() != 0) {
            std::unique_lock<std::mutex> lock(mutex_);
            done_.wait(lock, [&] { return busy_.load() == 0; });
        }
    }

private:
    static constexpr int MAX_THREADS = 256;
    // About 20 microseconds of waiting without sleep: the stages of one frame follow each other
    // closely.
    static constexpr int SPINS = 2000;

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }

    void work() {
        for (int64_t job; (job = next_.fetch_add(1)) < jobs_;) call_(context_, job);
    }

    int start_workers(int wanted) {
        try {
            for (; workers_ < wanted; workers_++) {
                std::thread(&ThreadPool::worker, this, workers_, round_.load()).detach();
            }
        } catch (const std::system_error&) {
            // The system's thread limit: go on with fewer workers.
        }
        return workers_ < wanted ? workers_ : wanted;
    }

    void worker(int index, uint64_t seen) {
        for (;;) {
            for (int spin = 0; spin < SPINS && round_.load() == seen; spin++) pause();
            bool called;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return round_.load() != seen; });
                seen = round_.load();
                called = index < helpers_;
                if (called) busy_.fetch_add(1);
            }
            if (!called) continue;
            work();
            bool last;
            {
                std::lock_guard<std::mutex> lock(mutex_);
                last = busy_.fetch_sub(1) == 1;
            }
            if (last) done_.notify_one();
        }
    }

    const pid_t process_ = getpid();
    std::mutex turn_, mutex_;
    std::condition_variable wake_, done_;
    std::atomic<uint64_t> round_{0};
    std::atomic<int64_t> next_{0};
    std::atomic<int> busy_{0};
    int workers_ = 0, helpers_ = 0;
    int64_t jobs_ = 0;
    void (*call_)(void*, int64_t) = nullptr;
    void* context_ = nullptr;
};
