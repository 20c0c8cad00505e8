package peers;

import com.fasterxml.jackson.core.JsonEncoding;
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import java.io.IOException;
import java.util.Map;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.atomic.AtomicLong;

/**
 * What was seen of the one job of this process: static, since engines make copies of what they run.
 */
public final class Run {
  private static final long SILENCE_NANOSECONDS_MAX = 60_000_000_000L;
  private static final long LOOK_MILLISECONDS = 20;

  private static final Stopwatch WATCH = new Stopwatch();
  private static final AtomicLong READ = new AtomicLong();
  private static final AtomicLong COUNTED = new AtomicLong();
  private static final AtomicLong BAD = new AtomicLong();
  private static final AtomicLong LATE = new AtomicLong();
  private static final Map<Long, Long> COUNTS = new ConcurrentSkipListMap<>();

  private Run() {}

  /** A frame was read; the first one starts the watch. */
  public static void read() {
    if (READ.getAndIncrement() == 0) {
      WATCH.start();
    }
  }

  /** An invalid frame was read. */
  public static void bad() {
    BAD.incrementAndGet();
  }

  /** A frame came too late to count. */
  public static void late() {
    LATE.incrementAndGet();
  }

  /** A frame was looked up in its minute. */
  public static void counted() {
    COUNTED.incrementAndGet();
  }

  /** A count was published; the watch says when the last one was. */
  public static void published(long minute, long users) {
    COUNTS.put(minute, users);
    WATCH.stop();
  }

  /** Waits until so many frames are counted, or were bad or late; or until none came for long. */
  public static void await(long frames) throws InterruptedException {
    long done = -1;
    long heardAt = System.nanoTime();
    while (done < frames && System.nanoTime() - heardAt < SILENCE_NANOSECONDS_MAX) {
      long now = COUNTED.get() + BAD.get() + LATE.get();
      if (now != done) {
        done = now;
        heardAt = System.nanoTime();
      }
      Thread.sleep(LOOK_MILLISECONDS);
    }
  }

  /** Writes the result; fails when not every frame was looked at. */
  public static void finish(Task task, Map<?, ?> settings) throws IOException {
    long done = COUNTED.get() + BAD.get() + LATE.get();
    if (done != task.frames()) {
      throw new IllegalStateException("expected " + task.frames() + " frames, counted " + done);
    }
    try (JsonGenerator out =
        new JsonFactory().createGenerator(task.out().toFile(), JsonEncoding.UTF8)) {
      out.writeStartObject();
      out.writeObjectFieldStart("counts");
      for (Map.Entry<Long, Long> count : COUNTS.entrySet()) {
        out.writeNumberField(count.getKey().toString(), count.getValue());
      }
      out.writeEndObject();
      out.writeNumberField("seconds", WATCH.seconds());
      out.writeNumberField("cpu_seconds", WATCH.cpuSeconds());
      out.writeNumberField("rejected", BAD.get());
      out.writeNumberField("late", LATE.get());
      out.writeNumberField("settings", settings.size());
      out.writeEndObject();
    }
  }
}
