"""What was measured (`records`), what makes two records the same run (`identity`), what the papers
report (`claims`), what each image was taken for (`predictions`), and averages over seeds
(`tables`).
"""
