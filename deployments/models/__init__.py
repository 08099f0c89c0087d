"""What rollouts keep beside the runs: measurements and their samples."""

from deployments.models.measurement import Measurement, MeasurementSample

__all__ = ["Measurement", "MeasurementSample"]
