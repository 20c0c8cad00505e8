package peers;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;

/** Wall and CPU time of the whole process between the first frame and the last count. */
public final class Stopwatch {
  private static final OperatingSystemMXBean PROCESS =
      (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

  private long startedAt;
  private long cpuStartedAt;
  private long stoppedAt;
  private long cpuStoppedAt;

  /** To be called at the first frame. */
  public void start() {
    startedAt = System.nanoTime();
    cpuStartedAt = PROCESS.getProcessCpuTime();
  }

  /** To be called when the last frame is counted. */
  public void stop() {
    stoppedAt = System.nanoTime();
    cpuStoppedAt = PROCESS.getProcessCpuTime();
  }

  double seconds() {
    return (stoppedAt - startedAt) / 1e9;
  }

  double cpuSeconds() {
    return (cpuStoppedAt - cpuStartedAt) / 1e9;
  }
}
