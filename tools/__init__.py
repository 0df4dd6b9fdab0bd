"""What made the data and the stored notebooks: `train`, `label`, `measure`, `build`; each says what to type."""
